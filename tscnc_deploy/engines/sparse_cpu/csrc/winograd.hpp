// Dense 3x3 convolutions with stride 1 by Winograd's F(4x4, 3x3), which turns the nine multiply-adds of an output and an
// input channel into 2.25: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016. Where lanes hold
// other blocks or images, every element of a tile is a line, and the transforms are sums of lines.
#pragma once

#include <stdint.h>

namespace scpu {

constexpr int kWinogradOut = 4, kWinogradIn = 6;  // sides of a tile
constexpr int kWinogradPlaces = kWinogradIn * kWinogradIn;
// The interpolation points are 0, +-kWinogradA, +-kWinogradB and infinity. Those of the paper, 1 and 2, give larger
// rounding errors; these and all their products here are exact.
constexpr double kWinogradA = 0.625, kWinogradB = 1.5;

// A tile of output lines; `in`, `out` and `add` in bytes from the start of a plane.
struct WinogradTile {
  int rows, cols;  // that are there, up to kWinogradOut
  int64_t in, out, add;
};

struct WinogradCall {
  const char* in;
  int64_t in_row, in_plane;  // bytes
  int channels;              // of the input
  const WinogradTile* tiles;
  int tile_count;
  const float* weights;  // [group of filters][kWinogradPlaces][input channel][filter in group]
  int begin, end;        // groups
  int filters;           // altogether; the last group may have fewer
  char* out;
  int64_t out_row, out_plane;
  const char* add;  // residual, or null
  int64_t add_row, add_plane;
  const float* bias;
  float low, high;
  int64_t place_lines;  // from the transformed inputs of one place to those of the next
  char* scratch;        // kWinogradPlaces times (place_lines + tiles * group) lines
};

// Takes `tiles` tiles and `group` filters at once.
struct WinogradKernel {
  int tiles, group;
  void (*run)(const WinogradCall&);
};

}  // namespace scpu
