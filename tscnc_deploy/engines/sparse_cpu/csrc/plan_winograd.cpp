// Which dense convolutions are computed in the transformed domain, in which tiles, and their transformed weights.
#include <algorithm>

#include "costs.hpp"
#include "plan.hpp"

namespace scpu {
namespace {

// Cycles, as in costs.hpp.
constexpr double kTransformIn = 180.0;   // a tile of inputs
constexpr double kTransformOut = 110.0;  // a tile of products, with what storing them has cost
constexpr double kStream = 0.1;          // more, for a line of the second cache among many that are read in order
constexpr double kThirdCache = 3.0;      // more, for a line that the second cache does not hold

// One side of the transform of weights: three elements `step` apart become six, `result_step` apart.
void transform(const double* g, int step, double* result, int result_step) {
  constexpr double a = kWinogradA, b = kWinogradB;
  constexpr double by_a = 1 / (2 * a * a * (a * a - b * b)), by_b = 1 / (2 * b * b * (b * b - a * a));
  result[0] = g[0] / (a * a * b * b);
  result[result_step] = (g[0] + a * g[step] + a * a * g[2 * step]) * by_a;
  result[2 * result_step] = (g[0] - a * g[step] + a * a * g[2 * step]) * by_a;
  result[3 * result_step] = (g[0] + b * g[step] + b * b * g[2 * step]) * by_b;
  result[4 * result_step] = (g[0] - b * g[step] + b * b * g[2 * step]) * by_b;
  result[5 * result_step] = g[2 * step];
}

double estimate(const WinogradKernel& kernel, int tiles, int channels, int filters, const Kernels& kernels) {
  const double rounds = (tiles + kernel.tiles - 1) / kernel.tiles, groups = (filters + kernel.group - 1) / kernel.group;
  const double products = kernel.tiles * kernel.group, places = double(kWinogradPlaces) * channels;
  // Both are read from end to end, the inputs for every group of filters, the weights in every round.
  const double inputs = places * kernel.tiles, weights = places * kernel.group / kernels.lanes;
  const bool near = (inputs + weights * groups) * double(kernels.line_bytes()) <= kSecondCache;
  // With one tile every multiply-add loads its weight.
  const double multiply = places * kMultiplyAdd * (kernel.tiles == 1 ? products + 1 : products);
  const double far = inputs * (near ? kStream : kFarLoad) + weights * (near ? kFarLoad : kThirdCache);
  return rounds * (channels * kernel.tiles * kTransformIn + groups * (multiply + far + products * kTransformOut));
}

}  // namespace

std::optional<Winograd> plan_winograd(const Op& op, const Shape& from, const Shape& to, const Layout& in,
                                      const Layout& out, const Layout* add, const Kernels& kernels) {
  const auto fits = [](const Axis& axis) { return axis.kernel == 3 && axis.stride == 1 && axis.dilation == 1; };
  if (!fits(op.y) || !fits(op.x) || op.groups != 1) return {};
  Winograd result{};
  const int64_t line = kernels.line_bytes();
  for (int y = 0; y < out.bh; y += kWinogradOut) {
    for (int x = 0; x < out.bw; x += kWinogradOut) {
      result.tiles.push_back({std::min(kWinogradOut, out.bh - y), std::min(kWinogradOut, out.bw - x),
                              in.line(y - op.y.pad, x - op.x.pad) * line, out.line(y, x) * line,
                              add ? add->line(y, x) * line : 0});
    }
  }
  for (int i = 0; i < kernels.winograd_count; i++) {
    const WinogradKernel& kernel = kernels.winograd[i];
    if (!kernel.run) continue;
    const double cycles = estimate(kernel, int(result.tiles.size()), from.c, to.c, kernels);
    if (result.kernel && cycles >= result.cycles) continue;
    result.cycles = cycles;
    result.kernel = &kernel;
  }
  result.groups = (to.c + result.kernel->group - 1) / result.kernel->group;
  result.place_lines = int64_t(from.c) * result.kernel->tiles | 1;  // odd, to spread over cache sets
  return result;
}

void Winograd::fill(const Op& op, const Shape& from, const Shape& to) {
  const int group = kernel->group;
  weights.assign(size_t(groups) * kWinogradPlaces * from.c * group, 0.f);
  for (int filter = 0; filter < to.c; filter++) {
    float* const first = &weights[(size_t(filter / group) * kWinogradPlaces * from.c) * group + filter % group];
    uint32_t at = op.row[filter];
    for (int channel = 0; channel < from.c; channel++) {
      double taps[9] = {}, half[18], places[kWinogradPlaces];
      for (; at < op.row[filter + 1] && op.position[at] / 9 == uint32_t(channel); at++) {
        taps[op.position[at] % 9] = op.weight[at];
      }
      for (int x = 0; x < 3; x++) transform(taps + x, 3, half + x, 3);
      for (int y = 0; y < kWinogradIn; y++) transform(half + y * 3, 1, places + y * kWinogradIn, 1);
      for (int place = 0; place < kWinogradPlaces; place++) {
        first[(size_t(place) * from.c + channel) * group] = float(places[place]);
      }
    }
  }
}

int64_t Winograd::scratch_lines() const {
  return kWinogradPlaces * (place_lines + int64_t(kernel->tiles) * kernel->group);
}

}  // namespace scpu
