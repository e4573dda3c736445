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
    if (step.action == Action::conv) return conv(step, step_number);
    const Value& target = plan_.values[step.target];
    const Channels channels = share(target.layout.c, thread_, shares_.threads());
    for (int c = channels.begin; c < channels.end; c++) {
      switch (step.action) {
        case Action::input: input(*step.op, target, c); break;
        case Action::max_pool: max_pool(step, c); break;
        case Action::mean: mean(step, c); break;
        case Action::elementwise: elementwise(step, c); break;
        case Action::concat: concat(step, c); break;
        case Action::refold: refold(step, c); break;
        case Action::conv: break;
      }
    }
    borders(target, channels.begin, channels.end, [](int c) { return c; });
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
    call.b = b ? inside(*b, c) : nullptr;
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
  }

  void concat(const Step& step, int c) const {
    const Value& target = plan_.values[step.target];
    int from = c;
    size_t s = 0;
    for (; from >= plan_.values[step.sources[s]].layout.c; s++) from -= plan_.values[step.sources[s]].layout.c;
    const Value& source = plan_.values[step.sources[s]];
    for (int y = 0; y < target.layout.bh; y++) {
      std::memcpy(inside(target, c) + y * row_bytes(target), inside(source, from) + y * row_bytes(source),
                  target.layout.bw * line_);
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
