#include "shares.hpp"

#include <algorithm>

namespace scpu {

Shares::Shares(const Plan& plan, int threads) : threads_(threads), rows_(plan.steps.size()) {
  for (size_t s = 0; s < plan.steps.size(); s++) {
    if (const auto& winograd = plan.steps[s].winograd) {
      std::vector<int> cuts;
      for (int thread = 0; thread <= threads; thread++) cuts.push_back(int(int64_t(winograd->groups) * thread / threads));
      rows_[s].push_back(std::move(cuts));
    }
    for (const Part& part : plan.steps[s].parts) {
      // A row costs its records in all blocks, and a little for itself.
      std::vector<uint64_t> until(part.rows + 1, 0);
      for (int row = 0; row < part.rows; row++) {
        uint64_t cost = 2;
        for (int block = 0; block < part.blocks; block++) {
          const size_t run = size_t(block) * part.rows + row;
          cost += part.start[run + 1] - part.start[run];
        }
        until[row + 1] = until[row] + cost;
      }
      std::vector<int> cuts;
      for (int thread = 0; thread <= threads; thread++) {
        const uint64_t goal = until.back() * thread / threads;
        cuts.push_back(int(std::lower_bound(until.begin(), until.end(), goal) - until.begin()));
      }
      rows_[s].push_back(std::move(cuts));
    }
  }
}

}  // namespace scpu
