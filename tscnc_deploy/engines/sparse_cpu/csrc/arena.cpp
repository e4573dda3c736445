#include "arena.hpp"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace scpu {
namespace {

constexpr int64_t kLargePage = 2 << 20;

}  // namespace

Arena::~Arena() { std::free(data_); }

char* Arena::reserve(int64_t bytes) {
  if (bytes <= bytes_) return data_;
  std::free(data_);
  bytes_ = 0;
  const int64_t rounded = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  data_ = static_cast<char*>(std::aligned_alloc(kLargePage, size_t(rounded)));
  if (!data_) throw std::bad_alloc();
#if defined(__linux__)
  madvise(data_, size_t(rounded), MADV_HUGEPAGE);  // a wish; small pages work as well, if slower
#endif
  bytes_ = rounded;
  return data_;
}

}  // namespace scpu
