#pragma once

#include <stdint.h>

namespace scpu {

// One place of a border: line `target` of a plane becomes its line `source` with the lanes rearranged.
struct Border {
  uint32_t target, source;  // in lines from the plane's start
  uint32_t shuffle;         // number of the rearrangement
};

}  // namespace scpu
