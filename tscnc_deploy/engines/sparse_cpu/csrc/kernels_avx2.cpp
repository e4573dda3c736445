#include <stddef.h>
#include <stdint.h>

#include "kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define ACCUMULATORS 12
#define VECTOR_REGISTER "x"
#define NAME "avx2"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace scpu {
namespace {

typedef float Line256 __attribute__((vector_size(32), may_alias));

static inline Line256 rearranged(Line256 source, const int32_t* shuffle, float outside) {
  const __m256i lanes = _mm256_loadu_si256((const __m256i*)shuffle);
  const __m256 moved = _mm256_permutevar8x32_ps((__m256)source, lanes);
  // The sign of a lane number of -1 selects the other operand.
  return (Line256)_mm256_blendv_ps(moved, _mm256_set1_ps(outside), _mm256_castsi256_ps(lanes));
}

#include "kernel_body.inc"

}  // namespace
}  // namespace scpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace scpu {

const Kernels* kernels_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &table : nullptr;
}

}  // namespace scpu
#else
namespace scpu {
const Kernels* kernels_avx2() { return nullptr; }
}  // namespace scpu
#endif
