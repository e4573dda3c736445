#include <stddef.h>
#include <stdint.h>

#include "kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define ACCUMULATORS 24
#define VECTOR_REGISTER "v"
#define NAME "avx512"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma")
#endif

namespace scpu {
namespace {

typedef float Line512 __attribute__((vector_size(64), may_alias));

static inline Line512 rearranged(Line512 source, const int32_t* shuffle, float outside) {
  const __m512i lanes = _mm512_loadu_si512(shuffle);
  const __mmask16 taken = _mm512_cmpge_epi32_mask(lanes, _mm512_setzero_si512());
  return (Line512)_mm512_mask_permutexvar_ps(_mm512_set1_ps(outside), taken, lanes, (__m512)source);
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

const Kernels* kernels_avx512() {
  const bool runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  return runs ? &table : nullptr;
}

}  // namespace scpu
#else
namespace scpu {
const Kernels* kernels_avx512() { return nullptr; }
}  // namespace scpu
#endif
