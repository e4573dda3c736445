#pragma once

#include <vector>

#include "plan.hpp"

namespace scpu {

// Which part of every step each of several threads does.
class Shares {
 public:
  Shares(const Plan& plan, int threads);

  // Rows of a part of a step's convolution; of one in the transformed domain, part 0 is all its groups of filters.
  int row(int step, int part, int thread) const { return rows_[step][part][thread]; }
  int threads() const { return threads_; }

 private:
  int threads_;
  std::vector<std::vector<std::vector<int>>> rows_;
};

}  // namespace scpu
