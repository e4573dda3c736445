// What the planner believes operations on lines to cost, in cycles; measured with AVX-512 on a Zen 5. Only their proportions
// matter. Fixed numbers: a plan, and with it the bits of a result, must not depend on the machine.
#pragma once

#include <cstdint>

namespace scpu {

constexpr int64_t kFirstCache = 40 << 10;  // less room for the sums
constexpr int64_t kSecondCache = 800 << 10;
constexpr double kMultiplyAdd = 0.53;
constexpr double kLoad = 0.62;
constexpr double kFarLoad = 0.45;  // more, for a line from the second cache
constexpr double kStore = 1.0;

}  // namespace scpu
