#include "kernels.hpp"

#include <cstring>

namespace scpu {

const Kernels* kernels_named(const char* name) {
  const Kernels* const all[] = {kernels_avx512(), kernels_avx2(), kernels_neon(), kernels_portable()};
  for (const Kernels* kernels : all) {
    if (kernels && (!std::strcmp(name, "auto") || !std::strcmp(name, kernels->name))) return kernels;
  }
  return nullptr;
}

}  // namespace scpu
