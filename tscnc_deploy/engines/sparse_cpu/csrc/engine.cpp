#include "engine.hpp"

#include <unistd.h>

#include <cstdio>

namespace scpu {
namespace {

constexpr int64_t kGroupBytes = 2 << 20;

const Kernels& require(const char* instructions) {
  const Kernels* kernels = kernels_named(instructions);
  if (!kernels) throw Error(std::string("this processor or this build has no instructions ") + instructions);
  return *kernels;
}

int64_t floats(const Shape& shape) { return int64_t(shape.c) * shape.h * shape.w; }

// The largest power of two that is not above `most` (at least 1).
int power_of_two(int64_t most) {
  int result = 1;
  while (result * 2 <= most) result *= 2;
  return result;
}

// The most images at once: few enough for the largest tensor to stay in a second or third cache, which is worth more than
// a few wider tiles.
int most_images(const Program& program, int lanes) {
  int64_t largest = 0;
  for (const Shape& shape : program.tensors()) largest = std::max(largest, floats(shape) * 4);
  return std::min(lanes, power_of_two(kGroupBytes / largest));
}

const char* name(Action action) {
  switch (action) {
    case Action::input: return "input";
    case Action::conv: return "conv";
    case Action::max_pool: return "max_pool";
    case Action::mean: return "mean";
    case Action::elementwise: return "elementwise";
    case Action::channels: return "channels";
    case Action::fill: return "fill";
    case Action::copy: return "copy";
    case Action::border: return "border";
    case Action::constant: return "constant";
    case Action::softmax: return "softmax";
    case Action::layer_norm: return "layer_norm";
    case Action::matmul: return "matmul";
    case Action::refold: return "refold";
  }
  return "";
}

}  // namespace

Engine::Engine(const void* program, size_t bytes, const char* instructions, int threads)
    : program_(program, bytes),
      kernels_(require(instructions)),
      threads_(threads),
      image_floats_(floats(program_.shape(program_.ops()[0].target))),
      classes_(program_.shape(program_.output()).c),
      most_(most_images(program_, kernels_.lanes)) {
  if (threads < 1 || threads > 256) throw Error("the number of threads must be from 1 to 256");
  for (int thread = 0; thread < threads; thread++) arenas_.push_back(std::make_unique<Arena>());
  ready(1);  // what cannot be planned is refused now
}

Engine::~Engine() {
  if (pool_ && owner_ != long(getpid())) (void)pool_.release();  // its threads are not in this process
}

Engine::Ready& Engine::ready(int images) {
  std::unique_ptr<Ready>& found = ready_[images];
  if (!found) found = std::make_unique<Ready>(program_, kernels_, images, threads_);
  return *found;
}

Pool& Engine::pool() {
  if (!pool_ || owner_ != long(getpid())) {
    (void)pool_.release();  // null, or left behind by the process that this one was forked from
    pool_ = std::make_unique<Pool>(threads_);
    owner_ = long(getpid());
  }
  return *pool_;
}

// Small enough shares for every thread to work alone on its own images come first; what is left is done together.
void Engine::run(const float* images, int64_t count, float* logits) {
  const std::lock_guard lock(mutex_);
  images_ = images;
  logits_ = logits;
  int64_t first = 0;
  while (count - first >= threads_) {
    const int each = std::min(most_, power_of_two((count - first) / threads_));
    run_alone(first, each);
    first += int64_t(each) * threads_;
  }
  while (first < count) {
    const int each = std::min(most_, power_of_two(count - first));
    run_together(first, each);
    first += each;
  }
}

void Engine::run_alone(int64_t first, int images) {
  Ready& ready = this->ready(images);
  ready.runs++;
  for (auto& arena : arenas_) arena->reserve(ready.plan.arena_bytes + ready.plan.scratch_bytes);
  const auto task = [&](int thread) {
    const int64_t image = first + int64_t(thread) * images;
    execute(ready.plan, ready.alone, arenas_[thread]->data(), images_ + image * image_floats_,
            logits_ + image * classes_, 0, nullptr, thread == 0 ? ready.nanoseconds.data() : nullptr);
  };
  if (threads_ == 1) return task(0);
  pool().run(task);
}

void Engine::run_together(int64_t first, int images) {
  Ready& ready = this->ready(images);
  ready.runs++;
  char* arena = arenas_[0]->reserve(ready.plan.arena_bytes + threads_ * ready.plan.scratch_bytes);
  Pool& pool = this->pool();
  pool.run([&](int thread) {
    execute(ready.plan, ready.together, arena, images_ + first * image_floats_, logits_ + first * classes_, thread,
            &pool, ready.nanoseconds.data());
  });
}

std::string Engine::describe(int images) {
  const std::lock_guard lock(mutex_);
  if (images < 1 || images > kernels_.lanes || (images & (images - 1))) {
    throw Error("plans exist for powers of two up to " + std::to_string(kernels_.lanes) + " images");
  }
  const Ready& ready = this->ready(images);
  const Plan& plan = ready.plan;
  char text[256];
  std::snprintf(text, sizeof text, "{\"instructions\":\"%s\",\"images\":%d,\"arena\":%lld,\"runs\":%lld,\"steps\":[",
                kernels_.name, images, (long long)plan.arena_bytes, (long long)ready.runs);
  std::string json = text;
  for (size_t s = 0; s < plan.steps.size(); s++) {
    const Step& step = plan.steps[s];
    const Layout& layout = plan.values[step.target].layout;
    std::snprintf(text, sizeof text,
                  "%s{\"action\":\"%s\",\"shape\":[%d,%d,%d],\"fold\":[%d,%d,%d],\"block\":[%d,%d],\"nanoseconds\":%lld",
                  s ? "," : "", name(step.action), layout.c, layout.h, layout.w, layout.fold.images, layout.fold.rows,
                  layout.fold.cols, layout.bh, layout.bw, (long long)ready.nanoseconds[s]);
    json += text;
    if (step.action == Action::conv) {
      json += ",\"nonzero\":" + std::to_string(step.op->row[layout.c]) + ",\"parts\":[";
      double cycles = step.winograd ? step.winograd->cycles : 0;
      for (size_t p = 0; p < step.parts.size(); p++) {
        const Part& part = step.parts[p];
        const ConvKernel& kernel = *part.tiles[0].kernel;
        cycles += part.cycles;
        std::snprintf(text, sizeof text,
                      "%s{\"group\":%d,\"rows\":%d,\"blocks\":%d,\"tile\":[%d,%d],\"tiles\":%zu,\"records\":%u}",
                      p ? "," : "", part.group, part.rows, part.blocks, kernel.rows, kernel.cols, part.tiles.size(),
                      part.start.back());
        json += text;
      }
      json += "],\"cycles\":" + std::to_string(int64_t(cycles));
      if (step.winograd) {
        const WinogradKernel& kernel = *step.winograd->kernel;
        std::snprintf(text, sizeof text, ",\"winograd\":{\"tiles\":%zu,\"at_once\":%d,\"group\":%d}",
                      step.winograd->tiles.size(), kernel.tiles, kernel.group);
        json += text;
      }
    }
    json += "}";
  }
  return json + "]}";
}

}  // namespace scpu
