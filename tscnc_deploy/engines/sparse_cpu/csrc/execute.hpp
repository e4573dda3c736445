// Runs a plan in an arena; several threads may share one execution.
#pragma once

#include <memory>
#include <vector>

#include "plan.hpp"
#include "pool.hpp"

namespace scpu {

// Memory for the activations of one execution, in large pages where the system has them.
class Arena {
 public:
  ~Arena();
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Grows to at least this size; what was in it is lost.
  char* reserve(int64_t bytes);
  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Which part of every step each of several threads does.
class Shares {
 public:
  Shares(const Plan& plan, int threads);

  // Rows of a part of a step's convolution.
  int row(int step, int part, int thread) const { return rows_[step][part][thread]; }
  int threads() const { return threads_; }

 private:
  int threads_;
  std::vector<std::vector<std::vector<int>>> rows_;
};

// Computes the logits of plan.images images.
//   images: [images, c, h, w]; logits: [images, classes]
//   pool: null if this thread works alone; else all its threads call this with their own id and the same arguments.
//   nanoseconds: null, or per step the time of thread 0, which is added up.
void execute(const Plan& plan, const Shares& shares, char* arena, const float* images, float* logits, int thread,
             Pool* pool, int64_t* nanoseconds);

}  // namespace scpu
