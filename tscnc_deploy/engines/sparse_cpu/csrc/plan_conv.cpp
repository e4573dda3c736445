// How a convolution is cut up: filters into groups that share loaded lines, output planes into tiles that stay in
// registers, input channels into blocks that stay in a cache. Every choice takes the least of a few estimates in cycles.
#include <algorithm>
#include <numeric>

#include "costs.hpp"
#include "plan.hpp"

namespace scpu {
namespace {

// Blocks of input channels that fill the first cache, up to what a second one keeps.
constexpr int64_t kBlocks[] = {kFirstCache, 2 * kFirstCache, 4 * kFirstCache, 8 * kFirstCache};
// Cycles, as in costs.hpp.
constexpr double kRow = 30.0;      // a row's end is rarely foreseen
constexpr double kTouch = 1.0;     // the first load of a line by a tile
constexpr int kWidths[] = {8, 6, 4, 3, 2, 1};
constexpr int kHeights[] = {4, 3, 2, 1};

struct Filters {
  const Op& op;
  int taps;        // positions of a channel
  int channels;    // of a group, input
  int per_group;   // filters of a group

  uint32_t count(int filter) const { return op.row[filter + 1] - op.row[filter]; }
  uint32_t first_channel(int filter) const { return uint32_t(filter / per_group) * channels; }
};

// Calls visit(position, weights) for every position that any of the filters has, in ascending order.
template <int G, class Visit>
void merge(const Op& op, const uint32_t* filters, Visit visit) {
  uint32_t at[G], end[G];
  for (int g = 0; g < G; g++) {
    at[g] = op.row[filters[g]];
    end[g] = op.row[filters[g] + 1];
  }
  for (;;) {
    uint32_t next = UINT32_MAX;
    for (int g = 0; g < G; g++) {
      if (at[g] < end[g]) next = std::min(next, op.position[at[g]]);
    }
    if (next == UINT32_MAX) return;
    float weights[G];
    for (int g = 0; g < G; g++) {
      const bool here = at[g] < end[g] && op.position[at[g]] == next;
      weights[g] = here ? op.weight[at[g]++] : 0.f;
    }
    visit(next, weights);
  }
}

template <class Visit>
void merge(int group, const Op& op, const uint32_t* filters, Visit visit) {
  if (group == 1) merge<1>(op, filters, visit);
  if (group == 2) merge<2>(op, filters, visit);
  if (group == 4) merge<4>(op, filters, visit);
}

uint64_t merged(int group, const Op& op, const uint32_t* filters) {
  uint64_t count = 0;
  merge(group, op, filters, [&](uint32_t, const float*) { count++; });
  return count;
}

const ConvKernel* kernel(const Kernels& kernels, int rows, int cols, int group, int stride) {
  for (int i = 0; i < kernels.conv_count; i++) {
    const ConvKernel& k = kernels.conv[i];
    const bool fits = k.rows == rows && k.cols == cols && k.group == group && (cols == 1 || k.stride == stride);
    if (fits && k.run) return &k;
  }
  return nullptr;
}

// Covers a block's outputs with tiles of at most rows x cols; empty if there is no such kernel.
std::vector<Tile> cover(const Kernels& kernels, const Layout& out, int rows, int cols, int group, int stride) {
  const auto cuts = [](int size, int most, auto& menu) {
    std::vector<int> result;
    for (int step : menu) {
      for (; step <= most && size >= step; size -= step) result.push_back(step);
    }
    return result;
  };
  if (!kernel(kernels, rows, cols, group, stride)) return {};
  std::vector<Tile> tiles;
  int y = 0;
  for (int height : cuts(out.bh, rows, kHeights)) {
    int x = 0;
    for (int width : cuts(out.bw, cols, kWidths)) {
      tiles.push_back({y, x, kernel(kernels, height, width, group, stride)});
      x += width;
    }
    y += height;
  }
  return tiles;
}

// Cycles of a record for a tile of `lines` outputs whose inputs come from the second cache with the probability `far`.
double record_cycles(int lines, int group, double far) {
  const double arithmetic = kMultiplyAdd * lines * group;
  const double loads = kLoad * (lines + (group == 1 ? 1 : group + 1));
  return std::max(arithmetic, loads) + far * kFarLoad * lines;
}

int64_t footprint(const ConvKernel& k, const Op& op) {
  return int64_t((k.rows - 1) * op.y.stride + op.y.reach() + 1) * ((k.cols - 1) * op.x.stride + op.x.reach() + 1);
}

// Chooses tiles and blocks for a part whose rows hold `records` records together.
void choose_tiles(Part& part, const Op& op, const Shape& from, const Layout& out, const Kernels& kernels,
                  uint64_t records) {
  const int channels = op.groups == 1 ? from.c : std::max(1, from.c / op.groups);
  double least = -1;
  for (int height : kHeights) {
    for (int width : kWidths) {
      if (height > out.bh || width > out.bw) continue;
      const std::vector<Tile> tiles = cover(kernels, out, height, width, part.group, op.x.stride);
      if (tiles.empty()) continue;
      const int64_t bytes = footprint(*tiles[0].kernel, op) * kernels.line_bytes();
      for (const int64_t budget : kBlocks) {
        const int64_t fit = std::max<int64_t>(1, budget / bytes);
        const int blocks = op.groups == 1 ? int((channels + fit - 1) / fit) : 1;
        const double far = std::max(0.0, 1.0 - double(kFirstCache) * blocks / double(channels * bytes));
        double cycles = 0;
        for (const Tile& tile : tiles) {
          const int lines = tile.kernel->rows * tile.kernel->cols;
          cycles += records * record_cycles(lines, part.group, far);
          cycles += part.rows * double(blocks) * (kRow + kStore * lines * part.group);
          cycles += part.rows * double(blocks - 1) * kLoad * lines * part.group;
          cycles += kTouch * double(channels) * double(footprint(*tile.kernel, op));
        }
        if (least < 0 || cycles < least) {
          least = cycles;
          part.tiles = tiles;
          part.blocks = blocks;
        }
      }
    }
  }
  part.cycles = least;
}

void fill(Part& part, const Filters& filters, const Layout& in, const Kernels& kernels) {
  const Op& op = filters.op;
  const int total = filters.channels * op.groups;
  const uint32_t in_block = uint32_t((total + part.blocks - 1) / part.blocks);
  std::vector<uint32_t> tap(filters.taps);
  for (int t = 0; t < filters.taps; t++) {
    const int64_t line = int64_t(t / op.x.kernel) * op.y.dilation * in.row_lines() + int64_t(t % op.x.kernel) * op.x.dilation;
    tap[t] = uint32_t(line * kernels.line_bytes());
  }
  const uint32_t plane = uint32_t(in.plane_lines() * kernels.line_bytes());
  const auto each = [&](auto visit) {
    for (int r = 0; r < part.rows; r++) {
      const uint32_t base = filters.first_channel(part.channel[r * part.group]);
      merge(part.group, op, &part.channel[r * part.group], [&](uint32_t position, const float* weights) {
        const uint32_t channel = base + position / filters.taps;
        visit((channel / in_block) * part.rows + r, channel * plane + tap[position % filters.taps], weights);
      });
    }
  };
  part.start.assign(size_t(part.blocks) * part.rows + 1, 0);
  each([&](uint32_t run, uint32_t, const float*) { part.start[run + 1]++; });
  uint32_t at_once = 1;
  for (const Tile& tile : part.tiles) {
    const int sums = tile.kernel->rows * tile.kernel->cols * part.group;
    at_once = std::max<uint32_t>(at_once, records_at_once(sums));
  }
  for (uint32_t& count : part.start) count = (count + at_once - 1) / at_once * at_once;
  std::partial_sum(part.start.begin(), part.start.end(), part.start.begin());
  part.records.resize((part.start.back() + kMostAhead) * part.record_bytes());
  std::vector<uint32_t> next(part.start.begin(), part.start.end() - 1);
  each([&](uint32_t run, uint32_t offset, const float* weights) {
    char* record = &part.records[next[run]++ * part.record_bytes()];
    std::copy_n(reinterpret_cast<const char*>(&offset), 4, record);
    std::copy_n(reinterpret_cast<const char*>(weights), 4 * part.group, record + 4);
  });
}

}  // namespace

std::vector<Part> plan_conv(const Op& op, const Shape& from, const Shape& to, const Layout& in, const Layout& out,
                            const Kernels& kernels, double most_cycles) {
  const Filters filters{op, op.y.kernel * op.x.kernel, from.c / op.groups, to.c / op.groups};
  std::vector<uint32_t> order(to.c);
  std::iota(order.begin(), order.end(), 0);
  // Filters of like density side by side, each within its group of input channels.
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const uint32_t group_a = a / filters.per_group, group_b = b / filters.per_group;
    return group_a != group_b ? group_a < group_b : filters.count(a) > filters.count(b);
  });
  Part parts[] = {{1, 0, {}, 1, {}, {}, {}, 0}, {2, 0, {}, 1, {}, {}, {}, 0}, {4, 0, {}, 1, {}, {}, {}, 0}};
  uint64_t records[] = {0, 0, 0};
  // Cycles of a record and output line in groups of 1, 2 and 4 filters, for the tiles that such groups leave room for.
  double price[3];
  for (int i = 0; i < 3; i++) {
    int lines = 0;
    for (int height : kHeights) {
      for (int width : kWidths) {
        const bool there = height <= out.bh && width <= out.bw && kernel(kernels, height, width, 1 << i, op.x.stride);
        if (there) lines = std::max(lines, height * width);
      }
    }
    price[i] = lines ? record_cycles(lines, 1 << i, 0) / lines : 1e30;
  }
  const auto take = [&](int which, const uint32_t* filter, uint64_t count) {
    parts[which].channel.insert(parts[which].channel.end(), filter, filter + parts[which].group);
    parts[which].rows++;
    records[which] += count;
  };
  for (size_t i = 0; i < order.size();) {
    const size_t left = filters.per_group - i % filters.per_group;
    const uint32_t* f = &order[i];
    const uint64_t one = filters.count(f[0]);
    if (left >= 4) {
      const uint64_t four = merged(4, op, f), first = merged(2, op, f), second = merged(2, op, f + 2);
      const uint64_t single = one + filters.count(f[1]) + filters.count(f[2]) + filters.count(f[3]);
      const double costs[] = {price[0] * single, price[1] * (first + second), price[2] * four};
      const int best = int(std::min_element(costs, costs + 3) - costs);
      if (best == 2) take(2, f, four);
      if (best == 1) take(1, f, first), take(1, f + 2, second);
      for (int k = 0; best == 0 && k < 4; k++) take(0, f + k, filters.count(f[k]));
      i += 4;
    } else {
      take(0, f, one);
      i++;
    }
  }
  std::vector<Part> used;
  double cycles = 0;
  for (int i = 0; i < 3; i++) {
    if (!parts[i].rows) continue;
    choose_tiles(parts[i], op, from, out, kernels, records[i]);
    cycles += parts[i].cycles;
    used.push_back(std::move(parts[i]));
  }
  if (cycles >= most_cycles) return {};
  for (Part& part : used) fill(part, filters, in, kernels);
  return used;
}

}  // namespace scpu
