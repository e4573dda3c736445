// The arithmetic of single elements; apart from program.hpp, because kernels include C headers only.
#pragma once

#include <stdint.h>

namespace scpu {

// What an elementwise operation does with its second source.
enum class Combine : uint32_t {
  none = 0,
  add = 1,
  subtract = 2,          // a - b
  multiply = 3,
  divide = 4,            // a / b
  divide_reversed = 5,   // b / a
  largest = 6,
  smallest = 7,
};

// Applied to every element last; see kernel_functions.inc for formulas and errors.
enum class Function : uint32_t {
  none = 0,
  sigmoid = 1,
  tanh = 2,
  exp = 3,
  erf = 4,
  gelu = 5,
  gelu_tanh = 6,
  silu = 7,
  hard_sigmoid = 8,  // alpha, beta
  hard_swish = 9,    // alpha, beta
  leaky_relu = 10,   // alpha
  elu = 11,          // alpha
  softplus = 12,
  mish = 13,
  sqrt = 14,
  abs = 15,
};

}  // namespace scpu
