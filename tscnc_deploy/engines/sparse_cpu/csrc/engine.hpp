// An opened network: the program, its plans for the numbers of images that occur, and the threads that run them.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "arena.hpp"
#include "execute.hpp"

namespace scpu {

class Engine {
 public:
  // Throws Error if the program is not sound or the instructions are not there.
  Engine(const void* program, size_t bytes, const char* instructions, int threads);
  ~Engine();

  const char* instructions() const { return kernels_.name; }
  // Logits of any number of images; calls from several threads take turns.
  void run(const float* images, int64_t count, float* logits);
  // How `images` images at once are computed, as JSON; with the times of the steps since the engine was opened.
  std::string describe(int images);

 private:
  struct Ready {
    Plan plan;
    Shares alone, together;
    std::vector<int64_t> nanoseconds;
    int64_t runs = 0;

    Ready(const Program& program, const Kernels& kernels, int images, int threads)
        : plan(program, kernels, images), alone(plan, 1), together(plan, threads), nanoseconds(plan.steps.size(), 0) {}
  };

  Ready& ready(int images);
  Pool& pool();
  void run_alone(int64_t first, int images);
  void run_together(int64_t first, int images);

  const Program program_;
  const Kernels& kernels_;
  const int threads_;
  const int64_t image_floats_, classes_;
  const int most_;  // images at once
  std::mutex mutex_;
  std::map<int, std::unique_ptr<Ready>> ready_;  // by the number of images
  std::vector<std::unique_ptr<Arena>> arenas_;   // one a thread
  std::unique_ptr<Pool> pool_;
  long owner_ = 0;  // the process that made the pool
  const float* images_ = nullptr;
  float* logits_ = nullptr;
};

}  // namespace scpu
