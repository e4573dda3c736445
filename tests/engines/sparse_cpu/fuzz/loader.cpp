// A libFuzzer target: whatever bytes it is given, the core opens them or refuses them, and runs what it opened.
//
//   cd tests/engines/sparse_cpu/fuzz && ./run 600        (needs clang; seeds are programs of small networks)
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    {
      // What is only large is refused for its size by other tests; here it would only cost time.
      const scpu::Program program(data, size);
      int64_t elements = 0;
      for (const scpu::Shape& shape : program.tensors()) elements += int64_t(shape.c) * shape.h * shape.w;
      int64_t reach = 1;
      for (const scpu::Op& op : program.ops()) {
        if (op.kind == scpu::Kind::matmul) {
          const scpu::Shape &a = program.shape(op.sources[0]), &to = program.shape(op.target);
          reach += int64_t(a.c / op.groups) * to.c * to.h * to.w >> 8;
        }
        if (op.kind != scpu::Kind::conv && op.kind != scpu::Kind::max_pool) continue;
        reach += int64_t(op.y.reach() + 1) * (op.x.reach() + 1) * program.shape(op.sources[0]).c;
      }
      if (elements > 1 << 16 || reach > 1 << 16) return 0;
    }
    // The last byte chooses how it is run.
    const char* const names[] = {"portable", "avx2", "auto"};
    const int choice = data[size - 1];
    scpu::Engine engine(data, size, names[choice % 3], 1 + choice / 3 % 2);
    const scpu::Program program(data, size);
    const scpu::Shape& in = program.shape(program.ops()[0].target);
    const int count = 1 + choice / 6 % 5;
    std::vector<float> images(size_t(count) * in.c * in.h * in.w, 0.5f);
    std::vector<float> logits(size_t(count) * program.shape(program.output()).c);
    engine.run(images.data(), count, logits.data());
  } catch (const scpu::Error&) {
  }
  return 0;
}
