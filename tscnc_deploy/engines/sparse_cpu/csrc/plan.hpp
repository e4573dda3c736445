// A program made ready for a fixed number of images and one instruction set: where every tensor lies, and in which tiles,
// blocks and groups every convolution is computed. Planning depends on nothing but the program, the number of images and
// the kernels, so that the same input gives the same bits on every run.
#pragma once

#include <optional>
#include <vector>

#include "fold.hpp"
#include "kernels.hpp"
#include "program.hpp"

namespace scpu {

// A tensor in memory; one tensor may be kept in several layouts.
struct Value {
  int tensor;
  Layout layout;
  Borders borders;
  int64_t offset = 0;  // bytes from the start of the arena
  int born = 0, dies = 0;  // steps
};

struct Tile {
  int y, x;  // first output line in its block
  const ConvKernel* kernel;
};

// Filters that are computed `group` at a time with the same tiles and blocks of input channels.
struct Part {
  int group;
  int rows;                       // of `group` filters each
  std::vector<uint32_t> channel;  // rows * group output channels
  int blocks;                     // of input channels
  std::vector<uint32_t> start;    // blocks * rows + 1 record numbers, by block and then by row
  std::vector<char> records;      // see ConvCall
  std::vector<Tile> tiles;
  double cycles;  // estimated

  size_t record_bytes() const { return 4 + 4 * size_t(group); }
};

// A dense convolution in the transformed domain.
struct Winograd {
  const WinogradKernel* kernel;
  double cycles;  // estimated
  int groups;     // of filters
  std::vector<WinogradTile> tiles;
  int64_t place_lines;         // see WinogradCall
  std::vector<float> weights;  // see WinogradCall

  void fill(const Op& op, const Shape& from, const Shape& to);
  int64_t scratch_lines() const;
};

// fill, copy: elements one by one; channels: whole planes; border: what lies outside, after steps whose threads share planes.
enum class Action {
  input, conv, max_pool, mean, elementwise, channels, fill, copy, border, constant, softmax, layer_norm, matmul, refold
};

struct Step {
  Action action;
  const Op* op;              // null for refold
  std::vector<int> sources;  // values
  int target;                // value
  std::vector<Part> parts;   // conv, if it is sparse
  std::optional<Winograd> winograd;  // conv, else
  // refold: for each line and lane of a target plane the float in the source plane, or -1; mean: the shuffles;
  // elementwise: the shuffle that gives every lane its image's value of b, if b has one a channel; matmul: such shuffles
  // for each lane of the first image, if there are several; channels: for each target channel a source and its channel,
  // or -1 and -1
  std::vector<int32_t> from;
  // Numbers of tables of the plan: of the target (copy, constant) and of each source (copy; matmul: of b alone).
  int places = -1;
  std::vector<int> source_places;
  int halvings = 0;  // mean
};

class Plan {
 public:
  Plan(const Program& program, const Kernels& kernels, int images);

  const Program& program;
  const Kernels& kernels;
  const int images;
  std::vector<Value> values;
  std::vector<Step> steps;
  // Where in a plane each pixel of the first image is, in floats; for every layout that is read pixel by pixel.
  std::vector<std::vector<int32_t>> places;
  int output = 0;           // value
  int64_t arena_bytes = 0;    // what one execution needs
  int64_t scratch_bytes = 0;  // and each of its threads
};

// The parts of a sparse convolution, or none if it is estimated to take as many cycles (plan_conv.cpp).
std::vector<Part> plan_conv(const Op& op, const Shape& from, const Shape& to, const Layout& in, const Layout& out,
                            const Kernels& kernels, double most_cycles);

// A convolution in the transformed domain, not yet filled; none where that does not apply (plan_winograd.cpp).
std::optional<Winograd> plan_winograd(const Op& op, const Shape& from, const Shape& to, const Layout& in,
                                      const Layout& out, const Layout* add, const Kernels& kernels);

}  // namespace scpu
