// The network as the Python side lowers it: a flat list of 32-bit words that this core checks before it uses any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "functions.hpp"

namespace scpu {

// What is wrong with a program, or with a request; the message reaches the user.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One image's activations: channels, height, width.
struct Shape {
  int c, h, w;
};

enum class Kind : uint32_t {
  input = 0,        // images [c, h, w] -> scale[c] * image + bias[c]
  conv = 1,         // sparse convolution + bias (+ residual), clamped, then a function; also every fully connected layer
  max_pool = 2,     // largest value of each window; places outside the image never win
  mean = 3,         // mean over height and width
  elementwise = 4,  // scale[c] * a + bias[c], combined with b, clamped, then a function
  copy = 5,         // elements of the sources, piece by piece; what no piece covers is a constant
  constant = 6,     // the same values for every image
  softmax = 7,      // over each `size` channels in turn
  layer_norm = 8,   // over each `size` channels in turn, then scale and bias
  matmul = 9,       // products of activations, see Op
};

// A box of elements: one loop per dimension over the linear elements of an image.
struct Piece {
  struct Dim {
    uint32_t size, target, source;  // strides, in elements
  };
  int source;  // number among the operation's sources
  uint32_t target_start, source_start;
  std::vector<Dim> dims;  // the first is the outermost
};

struct Axis {
  int kernel, stride, dilation, pad;  // pad: before the first element; what follows the last one results from the shapes

  int reach() const { return (kernel - 1) * dilation; }
};

struct Op {
  Kind kind;
  // Tensors. The second one of conv has the target's shape and is added. That of elementwise may have one channel, or one
  // value per channel, which count for all. Those of matmul are a and b.
  std::vector<int> sources;
  int target;                // tensor
  Axis y, x;                 // conv, max_pool
  int groups;                // conv, matmul
  float low, high;           // conv, elementwise: the result is clamped to [low, high]
  Function function;         // conv, elementwise
  float alpha, beta;         // of the function
  Combine combine;           // elementwise
  const float* bias;         // [target.c]; input, conv, elementwise; or [size]; layer_norm
  const float* scale;        // [target.c]; input, elementwise; or [size]; layer_norm
  std::vector<Piece> pieces;  // copy
  float fill;                // copy
  const float* values;       // [c, h, w]; constant
  int size;                  // softmax, layer_norm: channels of a group
  float epsilon;             // layer_norm
  // matmul: target[g, o][p] = factor * sum over k of a[g, k][p] * b, which is b[g, k][o], or b[g, o][k] if b_is_filters;
  // the first pair is a channel, the last index a position in (y, x) order.
  bool b_is_filters;
  float factor;
  // conv: of output channel o the non-zeros are row[o] .. row[o + 1]; a position is (channel in group, ky, kx), linear.
  const uint32_t* row;
  const uint32_t* position;
  const float* weight;
};

// A checked program. The pointers of its operations lead into `words_`, so it is neither copied nor moved.
class Program {
 public:
  // Throws Error if anything in the words is out of range or inconsistent.
  Program(const void* data, size_t bytes);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const std::vector<Shape>& tensors() const { return tensors_; }
  const std::vector<Op>& ops() const { return ops_; }
  const Shape& shape(int tensor) const { return tensors_[tensor]; }
  int output() const { return output_; }

 private:
  std::vector<uint32_t> words_;
  std::vector<Shape> tensors_;
  std::vector<Op> ops_;
  int output_ = 0;
};

}  // namespace scpu
