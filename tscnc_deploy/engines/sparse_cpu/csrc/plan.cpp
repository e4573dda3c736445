#include "plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace scpu {
namespace {

constexpr int64_t kMaxArena = int64_t(8) << 30;
constexpr int64_t kMaxTables = int64_t(1) << 30;
constexpr int64_t kMaxOffset = (int64_t(1) << 32) - 1;  // records hold offsets in 32 bits

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// A fold and the size of its blocks.
struct Blocks {
  Fold fold;
  int bh, bw;

  int64_t lines() const { return int64_t(bh) * bw; }
};

// How far an operation with windows reads around the blocks of its source.
struct Margins {
  int top, left, bottom, right;
};

// Whether a window of the operation reaches outside the image.
bool leaves(const Op& op, const Shape& from, const Shape& to) {
  const auto beyond = [](const Axis& axis, int size, int windows) {
    return axis.pad > 0 || int64_t(windows - 1) * axis.stride - axis.pad + axis.reach() > size - 1;
  };
  return beyond(op.y, from.h, to.h) || beyond(op.x, from.w, to.w);
}

class Planner {
 public:
  Planner(Plan& plan)
      : plan_(plan),
        program_(plan.program),
        primary_(program_.tensors().size(), -1),
        constants_(program_.tensors().size(), nullptr) {
    measure_strides();
  }

  void build() {
    for (const Op& op : program_.ops()) plan_op(op);
    plan_.output = primary(program_.output());
    plan_.values[plan_.output].dies = int(plan_.steps.size());
    for (Value& value : plan_.values) {
      if (value.layout.lines() * plan_.kernels.line_bytes() > kMaxOffset) {
        throw Error("a layer's activations exceed 4 GiB; give fewer images at once");
      }
      value.borders = borders(value.layout);
    }
    for (Step& step : plan_.steps) finish(step);
    place();
    const auto idle = [&](const Step& step) {
      return step.action == Action::border && plan_.values[step.target].borders.places.empty();
    };
    plan_.steps.erase(std::remove_if(plan_.steps.begin(), plan_.steps.end(), idle), plan_.steps.end());
  }

 private:
  // By which factor each tensor will still be made smaller: blocks divisible by it can be kept until the end.
  void measure_strides() {
    const size_t count = program_.tensors().size();
    later_y_.assign(count, 1);
    later_x_.assign(count, 1);
    zero_.assign(count, false);
    lowest_.assign(count, false);
    for (auto op = program_.ops().rbegin(); op != program_.ops().rend(); ++op) {
      const bool windows = op->kind == Kind::conv || op->kind == Kind::max_pool;
      if (op->kind == Kind::mean) {
        zero_[op->sources[0]] = true;
        continue;
      }
      if (op->kind == Kind::copy && !moves_planes(*op)) continue;
      for (int source : op->sources) {
        const int64_t y = int64_t(later_y_[op->target]) * (windows ? op->y.stride : 1);
        const int64_t x = int64_t(later_x_[op->target]) * (windows ? op->x.stride : 1);
        later_y_[source] = int(std::min<int64_t>(1 << 14, std::max<int64_t>(later_y_[source], y)));
        later_x_[source] = int(std::min<int64_t>(1 << 14, std::max<int64_t>(later_x_[source], x)));
        if (op->kind == Kind::conv) zero_[source] = true;
        if (op->kind == Kind::max_pool && leaves(*op, program_.shape(source), program_.shape(op->target))) {
          lowest_[source] = true;
        }
      }
    }
  }

  void plan_op(const Op& op) {
    const Shape& to = program_.shape(op.target);
    switch (op.kind) {
      case Kind::input: {
        add(Action::input, &op, {}, make(op.target, fresh(op.target, to, 1, 1)));
        break;
      }
      case Kind::conv:
      case Kind::max_pool: {
        const Shape& from = program_.shape(op.sources[0]);
        const Blocks out = blocks_after(op, from, to);
        const Blocks in{out.fold, out.fold.rows == 1 ? from.h : out.bh * op.y.stride,
                        out.fold.cols == 1 ? from.w : out.bw * op.x.stride};
        const float outside = op.kind == Kind::conv ? 0.f : -std::numeric_limits<float>::infinity();
        const bool padded = op.kind == Kind::conv || leaves(op, from, to);
        const int source = find(op.sources[0], in, padded ? outside : plan_.values[primary(op.sources[0])].layout.outside);
        widen(source, margins(op, in, out));
        std::vector<int> sources{source};
        if (op.sources.size() > 1) sources.push_back(find_any(op.sources[1], out));
        add(op.kind == Kind::conv ? Action::conv : Action::max_pool, &op, sources, make(op.target, out));
        break;
      }
      case Kind::mean: {
        const Layout& layout = plan_.values[primary(op.sources[0])].layout;
        const int source = find(op.sources[0], {layout.fold, layout.bh, layout.bw}, 0.f);
        add(Action::mean, &op, {source}, make(op.target, {{plan_.images, 1, 1}, 1, 1}));
        break;
      }
      case Kind::constant: {
        constants_[op.target] = &op;  // made in the layout of whoever reads it
        break;
      }
      case Kind::elementwise: {
        const Blocks blocks = blocks_of(op.sources[0]);
        std::vector<int> sources{find_any(op.sources[0], blocks)};
        if (op.sources.size() > 1) {
          const int b = op.sources[1];
          sources.push_back(spreads(op) ? primary(b) : find_any(b, blocks));
        }
        add(Action::elementwise, &op, sources, make(op.target, blocks));
        break;
      }
      case Kind::softmax:
      case Kind::layer_norm: {
        const Blocks blocks = blocks_of(op.sources[0]);
        const int source = primary(op.sources[0]), target = make(op.target, blocks);
        add(op.kind == Kind::softmax ? Action::softmax : Action::layer_norm, &op, {source}, target);
        add(Action::border, &op, {}, target);
        break;
      }
      case Kind::matmul: {
        const int a = primary(op.sources[0]), b = primary(op.sources[1]);
        add(Action::matmul, &op, {a, b}, make(op.target, blocks_of(op.sources[0])));
        plan_.scratch_bytes = std::max(plan_.scratch_bytes, product_scratch(op));
        break;
      }
      case Kind::copy: {
        if (moves_planes(op)) {
          const Blocks blocks = blocks_of(op.sources[0]);
          std::vector<int> sources;
          for (int source : op.sources) sources.push_back(find_any(source, blocks));
          add(Action::channels, &op, sources, make(op.target, blocks));
          break;
        }
        std::vector<int> sources;
        for (int source : op.sources) sources.push_back(primary(source));
        const int target = make(op.target, fresh(op.target, to, 1, 1));
        if (!fills(op)) add(Action::fill, &op, {}, target);
        add(Action::copy, &op, sources, target);
        add(Action::border, &op, {}, target);
        break;
      }
    }
  }

  Blocks blocks_of(int tensor) {
    const Layout& layout = plan_.values[primary(tensor)].layout;
    return {layout.fold, layout.bh, layout.bw};
  }

  // Whether the second source of an elementwise operation has one value a channel (or one in all) for many pixels.
  bool spreads(const Op& op) const {
    const Shape &b = program_.shape(op.sources[1]), &to = program_.shape(op.target);
    return b.h * b.w == 1 && to.h * to.w > 1;
  }

  int64_t product_scratch(const Op& op) const {
    const int depth = program_.shape(op.sources[0]).c / op.groups;
    return int64_t(depth) * kProductFilters * plan_.kernels.line_bytes();
  }

  // Whether the pieces of a copy write to every element, so that nothing has to be filled before.
  bool fills(const Op& op) const {
    const Shape& to = program_.shape(op.target);
    const uint64_t all = uint64_t(to.c) * to.h * to.w;
    uint64_t copied = 0;
    for (const Piece& piece : op.pieces) {
      uint64_t count = 1;
      for (const Piece::Dim& dim : piece.dims) count *= dim.size;
      copied += count;
    }
    if (copied != all) return false;
    // As many as there are: all of them, unless one is written twice.
    std::vector<bool> written(all, false);
    for (const Piece& piece : op.pieces) {
      std::vector<uint32_t> at(piece.dims.size(), 0);
      uint64_t element = piece.target_start;
      for (;;) {
        if (written[element]) return false;
        written[element] = true;
        size_t d = piece.dims.size();
        while (d-- > 0) {
          element += piece.dims[d].target;
          if (++at[d] < piece.dims[d].size) break;
          element -= uint64_t(piece.dims[d].size) * piece.dims[d].target;
          at[d] = 0;
        }
        if (d == SIZE_MAX) break;
      }
    }
    return true;
  }

  // Whether a copy moves nothing but whole planes: its pieces end in all pixels of images of one size, in order.
  bool moves_planes(const Op& op) const {
    const Shape& to = program_.shape(op.target);
    const uint32_t plane = uint32_t(to.h) * to.w;
    for (int source : op.sources) {
      const Shape& from = program_.shape(source);
      if (from.h != to.h || from.w != to.w) return false;
    }
    for (const Piece& piece : op.pieces) {
      if (piece.target_start % plane || piece.source_start % plane) return false;
      uint64_t inside = 1;  // pixels in order so far, from the innermost dimension
      for (size_t d = piece.dims.size(); d-- > 0;) {
        const Piece::Dim& dim = piece.dims[d];
        if (inside < plane) {
          if (dim.size > 1 && (dim.target != inside || dim.source != inside)) return false;
          inside *= dim.size;
          if (inside > plane && inside % plane) return false;
        } else if (dim.target % plane || dim.source % plane) {
          return false;
        }
      }
      if (inside < plane) return false;
    }
    return true;
  }

  // The blocks of the result: those that follow from the source's, unless they would leave many lanes empty.
  Blocks blocks_after(const Op& op, const Shape& from, const Shape& to) {
    const Layout& now = plan_.values[primary(op.sources[0])].layout;
    const Blocks best = fresh(op.target, to, op.y.stride, op.x.stride, &from);
    Blocks kept{now.fold, to.h, to.w};
    bool possible = true;
    if (now.fold.rows > 1) {
      kept.bh = now.bh / op.y.stride;
      possible &= now.bh % op.y.stride == 0 && kept.bh * now.fold.rows >= to.h;
    }
    if (now.fold.cols > 1) {
      kept.bw = now.bw / op.x.stride;
      possible &= now.bw % op.x.stride == 0 && kept.bw * now.fold.cols >= to.w;
    }
    return possible && kept.lines() * 4 <= best.lines() * 5 ? kept : best;
  }

  // The fold that needs the fewest lines; of several the one with the shortest borders, then the smallest grid.
  Blocks fresh(int tensor, const Shape& to, int stride_y, int stride_x, const Shape* from = nullptr) const {
    Blocks best{};
    const int most = plan_.kernels.lanes / plan_.images;
    for (int rows = 1; rows <= most; rows *= 2) {
      for (int cols = 1; rows * cols <= most; cols *= 2) {
        const Blocks blocks{{plan_.images, rows, cols},
                            side(to.h, rows, later_y_[tensor], stride_y, from ? from->h : 0),
                            side(to.w, cols, later_x_[tensor], stride_x, from ? from->w : 0)};
        const bool fewer = best.bh == 0 || blocks.lines() < best.lines();
        if (fewer || (blocks.lines() == best.lines() && blocks.bh + blocks.bw < best.bh + best.bw)) best = blocks;
      }
    }
    return best;
  }

  // The side of a block when `parts` blocks share `size` outputs (and, times the stride, the `before` inputs).
  static int side(int size, int parts, int later, int stride, int before) {
    if (parts == 1) return size;
    const int least = std::max(ceil_div(size, parts), ceil_div(before, parts * stride));
    for (int factor = later; factor > 1; factor /= 2) {
      const int rounded = ceil_div(least, factor) * factor;
      if (rounded * 8 <= least * 9) return rounded;
    }
    return least;
  }

  static Margins margins(const Op& op, const Blocks& in, const Blocks& out) {
    const int bottom = op.y.stride * (out.bh - 1) + op.y.reach() - op.y.pad - (in.bh - 1);
    const int right = op.x.stride * (out.bw - 1) + op.x.reach() - op.x.pad - (in.bw - 1);
    return {op.y.pad, op.x.pad, std::max(0, bottom), std::max(0, right)};
  }

  int make(int tensor, const Blocks& blocks) {
    const bool lowest = lowest_[tensor] && !zero_[tensor];
    const float outside = lowest ? -std::numeric_limits<float>::infinity() : 0.f;
    const int value = make_as(tensor, blocks, outside);
    primary_[tensor] = value;
    return value;
  }

  int make_as(int tensor, const Blocks& blocks, float outside) {
    const Shape& shape = program_.shape(tensor);
    Value value;
    value.tensor = tensor;
    value.layout = {blocks.fold, plan_.kernels.lanes, shape.c, shape.h, shape.w, blocks.bh, blocks.bw, outside, 0, 0, 0, 0};
    value.born = value.dies = int(plan_.steps.size());
    plan_.values.push_back(value);
    return int(plan_.values.size()) - 1;
  }

  // The tensor in these blocks, rearranged if it is not there yet.
  int find(int tensor, const Blocks& blocks, float outside) {
    for (size_t i = 0; i < plan_.values.size(); i++) {
      const Layout& layout = plan_.values[i].layout;
      const bool same = layout.fold == blocks.fold && layout.bh == blocks.bh && layout.bw == blocks.bw;
      if (plan_.values[i].tensor == tensor && same && layout.outside == outside) return int(i);
    }
    const int value = make_as(tensor, blocks, outside);
    if (constants_[tensor]) {
      add(Action::constant, constants_[tensor], {}, value);
    } else {
      add(Action::refold, nullptr, {primary_[tensor]}, value);
    }
    return value;
  }

  // The value that the tensor's operation wrote; a constant without one is made.
  int primary(int tensor) {
    if (primary_[tensor] < 0) {
      const int value = make(tensor, fresh(tensor, program_.shape(tensor), 1, 1));
      add(Action::constant, constants_[tensor], {}, value);
    }
    return primary_[tensor];
  }

  // The same for a reader that looks at single pixels, to which the outside does not matter.
  int find_any(int tensor, const Blocks& blocks) {
    const bool made = primary_[tensor] >= 0;
    return find(tensor, blocks, made ? plan_.values[primary_[tensor]].layout.outside : 0.f);
  }

  void widen(int value, const Margins& margins) {
    Layout& layout = plan_.values[value].layout;
    layout.top = std::max(layout.top, margins.top);
    layout.left = std::max(layout.left, margins.left);
    layout.bottom = std::max(layout.bottom, margins.bottom);
    layout.right = std::max(layout.right, margins.right);
  }

  void add(Action action, const Op* op, std::vector<int> sources, int target) {
    const int step = int(plan_.steps.size());
    for (int source : sources) plan_.values[source].dies = step;
    const bool again = !plan_.steps.empty() && plan_.steps.back().target == target;  // another step of one operation
    if (!again) plan_.values[target].born = step;
    plan_.values[target].dies = std::max(plan_.values[target].dies, step);
    plan_.steps.push_back({action, op, std::move(sources), target, {}, {}, {}, -1, {}, 0});
  }

  // What depends on the final layouts.
  void finish(Step& step) {
    const Value& target = plan_.values[step.target];
    if (step.action == Action::conv) {
      finish_conv(step);
    } else if (step.action == Action::mean) {
      add_lanes(step, plan_.values[step.sources[0]].layout);
    } else if (step.action == Action::elementwise) {
      if (step.sources.size() > 1 && spreads(*step.op)) spread_lanes(step);
    } else if (step.action == Action::channels) {
      finish_channels(step);
    } else if (step.action == Action::copy || step.action == Action::constant) {
      step.places = places(target.layout);
      for (int source : step.sources) step.source_places.push_back(places(plan_.values[source].layout));
    } else if (step.action == Action::matmul) {
      const Layout& b = plan_.values[step.sources[1]].layout;
      step.source_places.push_back(places(b));
      if (plan_.images > 1) spread_images(step, b, target.layout);
    } else if (step.action == Action::refold) {
      const Layout& in = plan_.values[step.sources[0]].layout;
      const Layout& out = target.layout;
      step.from.assign(out.bh * out.bw * out.lanes, -1);
      for (int i = 0; i < int(step.from.size()); i++) {
        int image, py, px, source_lane;
        int64_t source_line;
        if (!out.pixel(i % out.lanes, i / out.lanes / out.bw, i / out.lanes % out.bw, image, py, px)) continue;
        in.place(image, py, px, source_line, source_lane);
        step.from[i] = int32_t(source_line * in.lanes + source_lane);
      }
    }
  }

  void finish_conv(Step& step) {
    const Layout& in = plan_.values[step.sources[0]].layout;
    const Layout& out = plan_.values[step.target].layout;
    const Layout* add = step.sources.size() > 1 ? &plan_.values[step.sources[1]].layout : nullptr;
    const Shape& from = program_.shape(step.op->sources[0]);
    const Shape& to = program_.shape(step.op->target);
    step.winograd = plan_winograd(*step.op, from, to, in, out, add, plan_.kernels);
    const double most = step.winograd ? step.winograd->cycles : std::numeric_limits<double>::infinity();
    step.parts = plan_conv(*step.op, from, to, in, out, plan_.kernels, most);
    if (step.parts.empty()) {
      step.winograd->fill(*step.op, from, to);
      const int64_t bytes = step.winograd->scratch_lines() * plan_.kernels.line_bytes();
      plan_.scratch_bytes = std::max(plan_.scratch_bytes, bytes);
    } else {
      step.winograd.reset();
    }
  }

  // The number of a layout's table, see Plan::places.
  int places(const Layout& layout) {
    const std::vector<int64_t> form{layout.h, layout.w, layout.bh, layout.bw, layout.fold.rows, layout.fold.cols,
                                    layout.row_lines(), layout.line(0, 0)};
    const auto [entry, fresh] = tables_.try_emplace(form, int(plan_.places.size()));
    if (!fresh) return entry->second;
    table_bytes_ += int64_t(layout.h) * layout.w * 4;
    if (table_bytes_ > kMaxTables) throw Error("the copies need more than 1 GiB of tables");
    std::vector<int32_t> table;
    table.reserve(size_t(layout.h) * layout.w);
    for (int y = 0; y < layout.h; y++) {
      for (int x = 0; x < layout.w; x++) {
        int64_t line;
        int lane;
        layout.place(0, y, x, line, lane);
        table.push_back(int32_t(line * layout.lanes + lane));
      }
    }
    plan_.places.push_back(std::move(table));
    return entry->second;
  }

  // The shuffle that brings the only pixel of an image to all lanes that hold the image in the target.
  void spread_lanes(Step& step) const {
    const Layout &b = plan_.values[step.sources[1]].layout, &out = plan_.values[step.target].layout;
    for (int lane = 0; lane < out.lanes; lane++) {
      const int image = lane / (out.fold.rows * out.fold.cols);
      step.from.push_back(image < b.fold.images ? image * b.fold.rows * b.fold.cols : -1);
    }
  }

  // For each lane of the first image in b, the shuffle that gives all lanes of the target what their image has there.
  static void spread_images(Step& step, const Layout& b, const Layout& out) {
    const int each = b.fold.rows * b.fold.cols;
    for (int first = 0; first < out.lanes; first++) {
      for (int lane = 0; lane < out.lanes; lane++) {
        const int image = lane / (out.fold.rows * out.fold.cols);
        step.from.push_back(first < each && image < b.fold.images ? image * each + first : -1);
      }
    }
  }

  // Reads the pieces of a copy that moves planes: see Step::from.
  void finish_channels(Step& step) const {
    const Shape& to = program_.shape(step.op->target);
    const uint32_t plane = uint32_t(to.h) * to.w;
    step.from.assign(size_t(to.c) * 2, -1);
    for (const Piece& piece : step.op->pieces) {
      uint64_t inside = 1;
      std::vector<Piece::Dim> dims;  // over planes, the innermost first
      for (size_t d = piece.dims.size(); d-- > 0;) {
        const Piece::Dim& dim = piece.dims[d];
        if (inside >= plane) {
          dims.push_back({dim.size, dim.target / plane, dim.source / plane});
        } else if ((inside *= dim.size) > plane) {
          dims.push_back({uint32_t(inside / plane), 1, 1});
        }
      }
      std::vector<uint32_t> at(dims.size(), 0);
      for (;;) {
        uint32_t target = piece.target_start / plane, source = piece.source_start / plane;
        for (size_t d = 0; d < dims.size(); d++) target += at[d] * dims[d].target, source += at[d] * dims[d].source;
        step.from[target * 2] = piece.source;
        step.from[target * 2 + 1] = int32_t(source);
        size_t d = 0;
        while (d < dims.size() && ++at[d] == dims[d].size) at[d++] = 0;
        if (d == dims.size()) break;
      }
    }
  }

  // The shuffles that add up the lanes of an image pairwise, and bring the sum of image i to lane i.
  static void add_lanes(Step& step, const Layout& in) {
    const int parts = in.fold.rows * in.fold.cols;
    for (int half = parts / 2; half > 0; half /= 2, step.halvings++) {
      for (int lane = 0; lane < in.lanes; lane++) step.from.push_back(lane % parts < half ? lane + half : -1);
    }
    for (int lane = 0; lane < in.lanes; lane++) step.from.push_back(lane < in.fold.images ? lane * parts : -1);
  }

  // Gives every value its place in the arena: large ones first, each as low as those that live at the same time allow.
  void place() {
    const int64_t line = plan_.kernels.line_bytes();
    std::vector<int> order(plan_.values.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = int(i);
    const auto bytes = [&](int i) { return plan_.values[i].layout.lines() * line; };
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return bytes(a) > bytes(b); });
    std::vector<int> placed;  // by offset
    for (int i : order) {
      Value& value = plan_.values[i];
      int64_t offset = 0;
      for (int j : placed) {
        const Value& other = plan_.values[j];
        if (other.dies < value.born || value.dies < other.born) continue;
        if (offset + bytes(i) <= other.offset) break;
        offset = std::max(offset, other.offset + bytes(j));
      }
      value.offset = offset;
      plan_.arena_bytes = std::max(plan_.arena_bytes, offset + bytes(i));
      const auto after = [&](int a, int b) { return plan_.values[a].offset < plan_.values[b].offset; };
      placed.insert(std::upper_bound(placed.begin(), placed.end(), i, after), i);
    }
    if (plan_.arena_bytes + plan_.scratch_bytes > kMaxArena) throw Error("the activations need more than 8 GiB; give fewer images at once");
  }

  Plan& plan_;
  const Program& program_;
  std::vector<int> primary_;  // of a tensor the value that its operation writes
  std::vector<const Op*> constants_;
  std::map<std::vector<int64_t>, int> tables_;  // by what they depend on
  int64_t table_bytes_ = 0;
  std::vector<int> later_y_, later_x_;
  std::vector<bool> zero_, lowest_;  // what its readers take for the outside of a tensor
};

}  // namespace

Plan::Plan(const Program& program_, const Kernels& kernels_, int images_)
    : program(program_), kernels(kernels_), images(images_) {
  Planner(*this).build();
}

}  // namespace scpu
