// What one instruction set offers to the planner and the executor: a table of functions over lines of floats.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "border.hpp"
#include "functions.hpp"
#include "winograd.hpp"

namespace scpu {

// One call of a convolution kernel: a tile of output lines, a block of input channels, a run of rows (filter groups).
struct ConvCall {
  const char* in;           // first line that the tile's first output reads with offset 0
  int64_t in_row;           // bytes from a tile row's first input to that of the next
  const char* records;      // of this block of input channels: {uint32 offset in bytes, float weight[group]}
  const uint32_t* start;    // record numbers: row r has start[r] .. start[r + 1]
  const uint32_t* channel;  // output channels, `group` per row
  int begin, end;           // rows
  char* out;
  int64_t out_row, out_plane;  // bytes
  const char* add;             // residual at the same places, or null
  int64_t add_row, add_plane;
  const float* bias;
  float low, high;
  bool first, last;  // block of input channels: the first starts from the bias, the last adds and clamps
};

// How many records a kernel with this many sums takes at once: eight sums keep two multiply-add units busy.
constexpr int records_at_once(int sums) { return sums >= 8 ? 1 : sums >= 4 ? 2 : 4; }

// How many records a kernel looks ahead at least, and the most that any does: so many may be read behind the last one.
constexpr int kAhead = 2, kMostAhead = 4;

// Output tile of `rows` x `cols` lines for `group` filters at once, `stride` lines between neighbouring outputs.
struct ConvKernel {
  int rows, cols, group, stride;
  void (*run)(const ConvCall&);
};

struct PoolCall {
  const char* in;
  int64_t in_row;  // bytes of one input row
  char* out;
  int64_t out_row;
  int rows, cols;  // of output lines
  int kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x;
};

struct ElementwiseCall {
  const char* a;
  const char* b;  // or null
  char* out;
  int64_t a_row, b_row, out_row;  // bytes
  int rows, cols;
  float scale, bias, low, high;
  Combine combine;
  const int32_t* shuffle;  // null, or what makes the one line of b count for all lines
};

// A function that is applied to lines in place.
struct FunctionCall {
  Function function;
  float alpha, beta;
  char* lines;
  int64_t row;  // bytes
  int rows, cols;
};

// An operation over `size` channels of `count` neighbouring lines.
struct ChannelsCall {
  const char* in;
  int64_t in_plane;  // bytes
  char* out;
  int64_t out_plane;
  int size, count;
  const float *scale, *bias;  // layer_norm
  float epsilon;              // layer_norm
};

// How many filters of a product of activations are computed together.
constexpr int kProductFilters = 4;

// out[filter][line] = factor * sum over k of b[k][filter] * a[k][line] for kProductFilters filters or fewer.
struct ProductCall {
  const char* a;
  int64_t a_plane, a_row;  // bytes
  int depth;
  const char* b;  // [depth][kProductFilters], of floats if every lane takes the same, else of lines
  bool b_is_lines;
  char* out;
  int64_t out_plane, out_row;
  int filters, rows, cols;
  float factor;
};

// Collects what a product multiplies with: b[k][filter] is at the place place[k * k_place + filter * filter_place] of the
// plane k * k_plane + filter * filter_plane, of the first image.
struct PackCall {
  const char* b;
  int64_t plane_bytes;
  int k_plane, filter_plane, k_place, filter_place;  // 0 or 1
  const int32_t* places;
  int depth, filters;       // up to kProductFilters; the others are 0
  const int32_t* shuffles;  // null for one image, else for each lane of the first image what gives every lane its image's
  char* packed;             // see ProductCall
};

struct Kernels {
  const char* name;
  int lanes;  // floats in a line
  const ConvKernel* conv;
  int conv_count;
  const WinogradKernel* winograd;
  int winograd_count;
  // Fills the borders of planes that are laid out alike.
  void (*border)(char* const* planes, int count, const Border* places, size_t place_count, const int32_t* shuffles,
                 float outside);
  // Adds up the lines of a block, then `halvings` times each lane and another, and puts every image's sum in its place:
  // one shuffle for each halving and one for the end.
  void (*mean)(const char* in, int64_t in_row, int rows, int cols, const int32_t* shuffles, int halvings, float scale,
               char* out);
  void (*max_pool)(const PoolCall&);
  void (*elementwise)(const ElementwiseCall&);
  void (*function)(const FunctionCall&);
  void (*softmax)(const ChannelsCall&);
  void (*layer_norm)(const ChannelsCall&);
  void (*pack)(const PackCall&);
  void (*product)(const ProductCall&);
  int64_t (*spin)(int64_t rounds, float* sink);  // returns the multiply-adds that it did

  int64_t line_bytes() const { return int64_t(lanes) * 4; }
};

// Null where this build or this processor lacks the instructions.
const Kernels* kernels_avx512();
const Kernels* kernels_avx2();
const Kernels* kernels_neon();
const Kernels* kernels_portable();

// By name ("avx512", "avx2", "neon", "portable"), or the best there is for "auto"; null if it does not run here.
const Kernels* kernels_named(const char* name);

}  // namespace scpu
