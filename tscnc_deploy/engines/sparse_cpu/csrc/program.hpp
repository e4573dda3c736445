// The network as the Python side lowers it: a flat list of 32-bit words that this core checks before it uses any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

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
  conv = 1,         // sparse convolution + bias (+ residual), clamped; also every fully connected layer
  max_pool = 2,     // largest value of each window; places outside the image never win
  mean = 3,         // mean over height and width
  elementwise = 4,  // scale[c] * a + bias[c] (+ b), clamped
  concat = 5,       // channels of all sources, one after another
};

struct Axis {
  int kernel, stride, dilation, pad;  // pad: before the first element; what follows the last one results from the shapes

  int reach() const { return (kernel - 1) * dilation; }
};

struct Op {
  Kind kind;
  std::vector<int> sources;  // tensors; of conv and elementwise the second, if there is one, is added
  int target;                // tensor
  Axis y, x;                 // conv, max_pool
  int groups;                // conv
  float low, high;           // conv, elementwise: the result is clamped to [low, high]
  const float* bias;         // [target.c]; input, conv, elementwise
  const float* scale;        // [target.c]; input, elementwise
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
