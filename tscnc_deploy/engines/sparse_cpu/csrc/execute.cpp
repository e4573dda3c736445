#include "execute.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace scpu {
namespace {

constexpr int kPlanes = 8;  // whose borders are filled together

struct Channels {
  int begin, end;
};

Channels share(int channels, int thread, int threads) {
  return {int(int64_t(channels) * thread / threads), int(int64_t(channels) * (thread + 1) / threads)};
}

class Execution {
 public:
  Execution(const Plan& plan, const Shares& shares, char* arena, const float* images, float* logits, int thread)
      : plan_(plan),
        shares_(shares),
        kernels_(plan.kernels),
        line_(plan.kernels.line_bytes()),
        arena_(arena),
        images_(images),
        logits_(logits),
        thread_(thread) {}

  void run(int step_number) const {
    const Step& step = plan_.steps[step_number];
    if (step.winograd) return winograd(step, step_number);
    switch (step.action) {
      case Action::conv: return conv(step, step_number);
      case Action::softmax:
      case Action::layer_norm: return over_channels(step);
      case Action::matmul: return matmul(step);
      case Action::copy: return copy(step);
      default: break;  // one channel after another
    }
    const Value& target = plan_.values[step.target];
    const Channels channels = share(target.layout.c, thread_, shares_.threads());
    for (int c = channels.begin; c < channels.end; c++) {
      switch (step.action) {
        case Action::input: input(*step.op, target, c); break;
        case Action::max_pool: max_pool(step, c); break;
        case Action::mean: mean(step, c); break;
        case Action::elementwise: elementwise(step, c); break;
        case Action::channels: channel(step, c); break;
        case Action::constant: constant(step, c); break;
        case Action::fill: fill(target, c, step.op->fill); break;
        case Action::refold: refold(step, c); break;
        default: break;  // border, or none of these
      }
    }
    if (step.action != Action::fill) borders(target, channels.begin, channels.end, [](int c) { return c; });
  }

  void finish() const {
    const Value& value = plan_.values[plan_.output];
    const int classes = value.layout.c;
    for (int image = 0; image < plan_.images; image++) {
      int64_t line;
      int lane;
      value.layout.place(image, 0, 0, line, lane);
      for (int c = 0; c < classes; c++) {
        logits_[int64_t(image) * classes + c] = floats(value, c)[line * kernels_.lanes + lane];
      }
    }
  }

 private:
  char* plane(const Value& value, int c) const {
    return arena_ + value.offset + c * value.layout.plane_lines() * line_;
  }
  float* floats(const Value& value, int c) const { return reinterpret_cast<float*>(plane(value, c)); }
  char* inside(const Value& value, int c) const { return plane(value, c) + value.layout.line(0, 0) * line_; }
  int64_t row_bytes(const Value& value) const { return value.layout.row_lines() * line_; }

  // Of the channels channel(begin) to channel(end - 1).
  template <class Channel>
  void borders(const Value& value, int begin, int end, Channel channel) const {
    if (value.borders.places.empty()) return;
    char* planes[kPlanes];
    for (int i = begin; i < end;) {
      int count = 0;
      while (count < kPlanes && i < end) planes[count++] = plane(value, channel(i++));
      kernels_.border(planes, count, value.borders.places.data(), value.borders.places.size(),
                      value.borders.shuffles.data(), value.layout.outside);
    }
  }

  void conv(const Step& step, int step_number) const {
    const Op& op = *step.op;
    const Value& source = plan_.values[step.sources[0]];
    const Value& target = plan_.values[step.target];
    const Value* add = step.sources.size() > 1 ? &plan_.values[step.sources[1]] : nullptr;
    ConvCall call{};
    call.in_row = op.y.stride * row_bytes(source);
    call.out_row = row_bytes(target);
    call.out_plane = target.layout.plane_lines() * line_;
    call.add_row = add ? row_bytes(*add) : 0;
    call.add_plane = add ? add->layout.plane_lines() * line_ : 0;
    call.bias = op.bias;
    call.low = op.low;
    call.high = op.high;
    for (size_t p = 0; p < step.parts.size(); p++) {
      const Part& part = step.parts[p];
      call.begin = shares_.row(step_number, int(p), thread_);
      call.end = shares_.row(step_number, int(p), thread_ + 1);
      if (call.begin == call.end) continue;
      call.records = part.records.data();
      call.channel = part.channel.data();
      for (const Tile& tile : part.tiles) {
        const int64_t in = source.layout.line(tile.y * op.y.stride - op.y.pad, tile.x * op.x.stride - op.x.pad);
        call.in = plane(source, 0) + in * line_;
        call.out = plane(target, 0) + target.layout.line(tile.y, tile.x) * line_;
        call.add = add ? plane(*add, 0) + add->layout.line(tile.y, tile.x) * line_ : nullptr;
        for (int block = 0; block < part.blocks; block++) {
          call.start = part.start.data() + size_t(block) * part.rows;
          call.first = block == 0;
          call.last = block == part.blocks - 1;
          tile.kernel->run(call);
        }
      }
      for (int i = call.begin * part.group; i < call.end * part.group; i++) function(op, target, int(part.channel[i]));
      borders(target, call.begin * part.group, call.end * part.group, [&](int i) { return int(part.channel[i]); });
    }
  }

  void winograd(const Step& step, int step_number) const {
    const Winograd& how = *step.winograd;
    const Value& source = plan_.values[step.sources[0]];
    const Value& target = plan_.values[step.target];
    const Value* add = step.sources.size() > 1 ? &plan_.values[step.sources[1]] : nullptr;
    WinogradCall call{};
    call.begin = shares_.row(step_number, 0, thread_);
    call.end = shares_.row(step_number, 0, thread_ + 1);
    if (call.begin == call.end) return;
    call.in = plane(source, 0);
    call.in_row = row_bytes(source);
    call.in_plane = source.layout.plane_lines() * line_;
    call.channels = source.layout.c;
    call.tiles = how.tiles.data();
    call.tile_count = int(how.tiles.size());
    call.weights = how.weights.data();
    call.filters = target.layout.c;
    call.out = plane(target, 0);
    call.out_row = row_bytes(target);
    call.out_plane = target.layout.plane_lines() * line_;
    call.add = add ? plane(*add, 0) : nullptr;
    call.add_row = add ? row_bytes(*add) : 0;
    call.add_plane = add ? add->layout.plane_lines() * line_ : 0;
    call.bias = step.op->bias;
    call.low = step.op->low;
    call.high = step.op->high;
    call.place_lines = how.place_lines;
    call.scratch = arena_ + plan_.arena_bytes + thread_ * plan_.scratch_bytes;
    how.kernel->run(call);
    const int filters = std::min(call.filters, call.end * how.kernel->group);
    for (int c = call.begin * how.kernel->group; c < filters; c++) function(*step.op, target, c);
    borders(target, call.begin * how.kernel->group, filters, [](int c) { return c; });
  }

  void input(const Op& op, const Value& target, int c) const {
    const Layout& layout = target.layout;
    std::memset(plane(target, c), 0, layout.plane_lines() * line_);
    float* out = floats(target, c);
    for (int lane = 0; lane < layout.fold.images * layout.fold.rows * layout.fold.cols; lane++) {
      for (int y = 0; y < layout.bh; y++) {
        int image, py, px;
        if (!layout.pixel(lane, y, 0, image, py, px)) break;
        const float* in = images_ + ((int64_t(image) * layout.c + c) * layout.h + py) * layout.w + px;
        float* row = out + layout.line(y, 0) * layout.lanes + lane;
        const int count = std::min(layout.bw, layout.w - px);
        for (int x = 0; x < count; x++) row[int64_t(x) * layout.lanes] = in[x] * op.scale[c] + op.bias[c];
      }
    }
  }

  void max_pool(const Step& step, int c) const {
    const Value& source = plan_.values[step.sources[0]];
    const Value& target = plan_.values[step.target];
    const Op& op = *step.op;
    PoolCall call{};
    call.in = plane(source, c) + source.layout.line(-op.y.pad, -op.x.pad) * line_;
    call.in_row = row_bytes(source);
    call.out = inside(target, c);
    call.out_row = row_bytes(target);
    call.rows = target.layout.bh;
    call.cols = target.layout.bw;
    call.kernel_y = op.y.kernel, call.kernel_x = op.x.kernel;
    call.stride_y = op.y.stride, call.stride_x = op.x.stride;
    call.dilation_y = op.y.dilation, call.dilation_x = op.x.dilation;
    kernels_.max_pool(call);
  }

  void mean(const Step& step, int c) const {
    const Value& source = plan_.values[step.sources[0]];
    const Layout& layout = source.layout;
    const float scale = 1.f / (float(layout.h) * float(layout.w));
    kernels_.mean(inside(source, c), row_bytes(source), layout.bh, layout.bw, step.from.data(), step.halvings, scale,
                  inside(plan_.values[step.target], c));
  }

  void elementwise(const Step& step, int c) const {
    const Value& a = plan_.values[step.sources[0]];
    const Value* b = step.sources.size() > 1 ? &plan_.values[step.sources[1]] : nullptr;
    const Value& target = plan_.values[step.target];
    const Op& op = *step.op;
    ElementwiseCall call{};
    call.a = inside(a, c);
    call.b = b ? inside(*b, b->layout.c == 1 ? 0 : c) : nullptr;
    call.combine = op.combine;
    call.shuffle = step.from.empty() ? nullptr : step.from.data();
    call.out = inside(target, c);
    call.a_row = row_bytes(a);
    call.b_row = b ? row_bytes(*b) : 0;
    call.out_row = row_bytes(target);
    call.rows = target.layout.bh;
    call.cols = target.layout.bw;
    call.scale = op.scale[c];
    call.bias = op.bias[c];
    call.low = op.low;
    call.high = op.high;
    kernels_.elementwise(call);
    function(op, target, c);
  }

  // Applies an operation's function to a channel that it has written.
  void function(const Op& op, const Value& target, int c) const {
    if (op.function == Function::none) return;
    kernels_.function({op.function, op.alpha, op.beta, inside(target, c), row_bytes(target), target.layout.bh,
                       target.layout.bw});
  }

  void channel(const Step& step, int c) const {
    const Value& target = plan_.values[step.target];
    const int number = step.from[size_t(c) * 2];
    if (number < 0) return fill(target, c, step.op->fill);
    const Value& source = plan_.values[step.sources[number]];
    const char* from = inside(source, step.from[size_t(c) * 2 + 1]);
    for (int y = 0; y < target.layout.bh; y++) {
      std::memcpy(inside(target, c) + y * row_bytes(target), from + y * row_bytes(source), target.layout.bw * line_);
    }
  }

  void fill(const Value& target, int c, float value) const {
    std::fill_n(floats(target, c), target.layout.plane_lines() * kernels_.lanes, value);
  }

  void constant(const Step& step, int c) const {
    const Value& target = plan_.values[step.target];
    const Layout& layout = target.layout;
    const std::vector<int32_t>& places = plan_.places[step.places];
    const float* values = step.op->values + int64_t(c) * places.size();
    float* out = floats(target, c);
    for (int image = 0; image < layout.fold.images; image++, out += layout.fold.rows * layout.fold.cols) {
      for (size_t i = 0; i < places.size(); i++) out[places[i]] = values[i];
    }
  }

  // A place that moves through the elements of an image by one stride.
  struct Cursor {
    const int32_t* places;
    char* plane;
    int64_t plane_bytes, step_bytes;
    uint32_t at, size, step;  // pixels

    Cursor(const std::vector<int32_t>& places, char* first, int64_t plane_bytes, uint64_t element, uint32_t stride)
        : places(places.data()),
          plane(first + int64_t(element / places.size()) * plane_bytes),
          plane_bytes(plane_bytes),
          step_bytes(int64_t(stride / places.size()) * plane_bytes),
          at(uint32_t(element % places.size())),
          size(uint32_t(places.size())),
          step(uint32_t(stride % places.size())) {}

    float* here() const { return reinterpret_cast<float*>(plane) + places[at]; }
    void advance() {
      plane += step_bytes;
      at += step;
      if (at >= size) at -= size, plane += plane_bytes;
    }
  };

  void copy(const Step& step) const {
    for (const Piece& piece : step.op->pieces) {
      const uint64_t size = piece.dims[0].size;
      const uint64_t begin = size * thread_ / shares_.threads(), end = size * (thread_ + 1) / shares_.threads();
      if (begin < end) copy(step, piece, 0, begin, end, piece.target_start, piece.source_start);
    }
  }

  // The elements `begin` to `end` of a dimension and all of the following ones.
  void copy(const Step& step, const Piece& piece, size_t dim, uint64_t begin, uint64_t end, uint64_t to,
            uint64_t from) const {
    const Piece::Dim& how = piece.dims[dim];
    to += begin * how.target;
    from += begin * how.source;
    if (dim + 1 < piece.dims.size()) {
      for (uint64_t i = begin; i < end; i++, to += how.target, from += how.source) {
        copy(step, piece, dim + 1, 0, piece.dims[dim + 1].size, to, from);
      }
      return;
    }
    const Value &target = plan_.values[step.target], &source = plan_.values[step.sources[piece.source]];
    const int to_lanes = target.layout.fold.rows * target.layout.fold.cols;
    const int from_lanes = source.layout.fold.rows * source.layout.fold.cols;
    Cursor out(plan_.places[step.places], plane(target, 0), target.layout.plane_lines() * line_, to, how.target);
    Cursor in(plan_.places[step.source_places[piece.source]], plane(source, 0), source.layout.plane_lines() * line_,
              from, how.source);
    if (plan_.images == 1) {
      for (uint64_t i = begin; i < end; i++, out.advance(), in.advance()) *out.here() = *in.here();
      return;
    }
    for (uint64_t i = begin; i < end; i++, out.advance(), in.advance()) {
      float *to_place = out.here(), *from_place = in.here();
      for (int image = 0; image < plan_.images; image++) to_place[image * to_lanes] = from_place[image * from_lanes];
    }
  }

  // Every thread takes some of the lines of all groups, so borders follow in a step of their own.
  void over_channels(const Step& step) const {
    const Op& op = *step.op;
    const Value &source = plan_.values[step.sources[0]], &target = plan_.values[step.target];
    const int rows = target.layout.bh, cols = target.layout.bw, groups = target.layout.c / op.size;
    ChannelsCall call{};
    call.in_plane = source.layout.plane_lines() * line_;
    call.out_plane = target.layout.plane_lines() * line_;
    call.size = op.size;
    call.scale = op.scale;
    call.bias = op.bias;
    call.epsilon = op.epsilon;
    const int64_t lines = int64_t(groups) * rows * cols;
    const int64_t end = lines * (thread_ + 1) / shares_.threads();
    for (int64_t line = lines * thread_ / shares_.threads(); line < end; line += call.count) {
      const int x = int(line % cols), y = int(line / cols % rows), group = int(line / cols / rows);
      call.count = int(std::min<int64_t>(cols - x, end - line));
      call.in = inside(source, group * op.size) + y * row_bytes(source) + x * line_;
      call.out = inside(target, group * op.size) + y * row_bytes(target) + x * line_;
      if (step.action == Action::softmax) {
        kernels_.softmax(call);
      } else {
        kernels_.layer_norm(call);
      }
    }
  }

  void matmul(const Step& step) const {
    const Op& op = *step.op;
    const Value &a = plan_.values[step.sources[0]], &b = plan_.values[step.sources[1]];
    const Value& target = plan_.values[step.target];
    const int filters = target.layout.c / op.groups;
    const int rounds = (filters + kProductFilters - 1) / kProductFilters;
    char* const packed = arena_ + plan_.arena_bytes + thread_ * plan_.scratch_bytes;
    ProductCall call{};
    call.a_plane = a.layout.plane_lines() * line_;
    call.a_row = row_bytes(a);
    call.depth = a.layout.c / op.groups;
    call.b = packed;
    call.b_is_lines = plan_.images > 1;
    call.out_plane = target.layout.plane_lines() * line_;
    call.out_row = row_bytes(target);
    call.rows = target.layout.bh;
    call.cols = target.layout.bw;
    call.factor = op.factor;
    PackCall pack{};
    pack.plane_bytes = b.layout.plane_lines() * line_;
    pack.k_plane = pack.filter_place = op.b_is_filters ? 0 : 1;
    pack.filter_plane = pack.k_place = op.b_is_filters ? 1 : 0;
    pack.depth = call.depth;
    pack.shuffles = call.b_is_lines ? step.from.data() : nullptr;
    pack.packed = packed;
    const int32_t* const places = plan_.places[step.source_places[0]].data();
    const int64_t all = int64_t(op.groups) * rounds;
    const int64_t end = all * (thread_ + 1) / shares_.threads();
    for (int64_t round = all * thread_ / shares_.threads(); round < end; round++) {
      const int group = int(round / rounds), first = int(round % rounds) * kProductFilters;
      call.filters = std::min(kProductFilters, filters - first);
      pack.filters = call.filters;
      pack.b = plane(b, op.b_is_filters ? group * filters + first : group * call.depth);
      pack.places = places + (op.b_is_filters ? 0 : first);
      kernels_.pack(pack);
      call.a = inside(a, group * call.depth);
      call.out = inside(target, group * filters + first);
      kernels_.product(call);
      borders(target, group * filters + first, group * filters + first + call.filters, [](int c) { return c; });
    }
  }

  void refold(const Step& step, int c) const {
    const Value& target = plan_.values[step.target];
    const float* in = floats(plan_.values[step.sources[0]], c);
    const Layout& layout = target.layout;
    const int32_t* from = step.from.data();
    for (int y = 0; y < layout.bh; y++) {
      float* out = reinterpret_cast<float*>(inside(target, c) + y * row_bytes(target));
      for (int i = 0; i < layout.bw * layout.lanes; i++, from++) out[i] = *from < 0 ? layout.outside : in[*from];
    }
  }

  const Plan& plan_;
  const Shares& shares_;
  const Kernels& kernels_;
  const int64_t line_;
  char* arena_;
  const float* images_;
  float* logits_;
  const int thread_;
};

}  // namespace

void execute(const Plan& plan, const Shares& shares, char* arena, const float* images, float* logits, int thread,
             Pool* pool, int64_t* nanoseconds) {
  const Execution execution(plan, shares, arena, images, logits, thread);
  for (size_t step = 0; step < plan.steps.size(); step++) {
    const auto start = std::chrono::steady_clock::now();
    execution.run(int(step));
    if (pool) pool->barrier();
    if (nanoseconds && thread == 0) {
      nanoseconds[step] += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    }
  }
  if (thread == 0) execution.finish();
}

}  // namespace scpu
