// Plain vectors of four floats: SSE2 on x86-64, NEON on 64-bit ARM (where it is part of every processor and the compiler
// fuses multiply and add), whatever the compiler makes of them elsewhere.
#include <stddef.h>
#include <stdint.h>

#include "kernels.hpp"

#define LANES 4
#if defined(__aarch64__)
#define ACCUMULATORS 24
#define VECTOR_REGISTER "w"
#define NAME "neon"
#else
#define ACCUMULATORS 12
#if defined(__x86_64__)
#define VECTOR_REGISTER "x"
#else
#define VECTOR_REGISTER "m"
#endif
#define NAME "portable"
#endif

namespace scpu {
namespace {

typedef float Line128 __attribute__((vector_size(16), may_alias));

static inline Line128 rearranged(Line128 source, const int32_t* shuffle, float outside) {
  Line128 result;
  for (int lane = 0; lane < LANES; lane++) result[lane] = shuffle[lane] < 0 ? outside : source[shuffle[lane]];
  return result;
}

#include "kernel_body.inc"

}  // namespace

#if defined(__aarch64__)
const Kernels* kernels_neon() { return &table; }
const Kernels* kernels_portable() { return nullptr; }
#else
const Kernels* kernels_neon() { return nullptr; }
const Kernels* kernels_portable() { return &table; }
#endif

}  // namespace scpu
