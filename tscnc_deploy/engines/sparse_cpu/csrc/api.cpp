#include "api.h"

#include <cstring>
#include <new>

#include "engine.hpp"

namespace {

void say(char* message, size_t bytes, const char* text) {
  if (bytes == 0) return;
  std::strncpy(message, text, bytes - 1);
  message[bytes - 1] = 0;
}

// Nothing that is thrown may leave through a C function.
template <class Body>
bool guarded(char* message, size_t bytes, Body body) {
  try {
    body();
    return true;
  } catch (const std::bad_alloc&) {
    say(message, bytes, "there is not enough memory");
  } catch (const std::exception& error) {
    say(message, bytes, error.what());
  }
  return false;
}

scpu::Engine* inner(ScpuEngine* engine) { return reinterpret_cast<scpu::Engine*>(engine); }

}  // namespace

int scpu_version(void) { return 2; }

const char* scpu_instructions(const char* name) {
  const scpu::Kernels* kernels = scpu::kernels_named(name);
  return kernels ? kernels->name : nullptr;
}

int64_t scpu_spin(const char* instructions, int64_t rounds) {
  const scpu::Kernels* kernels = scpu::kernels_named(instructions);
  float sink[2] = {0.5f, 0.25f};
  return kernels ? kernels->spin(rounds, sink) : 0;
}

ScpuEngine* scpu_open(const void* program, size_t bytes, const char* instructions, int threads, char* message,
                      size_t message_bytes) {
  scpu::Engine* engine = nullptr;
  guarded(message, message_bytes, [&] { engine = new scpu::Engine(program, bytes, instructions, threads); });
  return reinterpret_cast<ScpuEngine*>(engine);
}

int scpu_run(ScpuEngine* engine, const float* images, int64_t count, float* logits, char* message,
             size_t message_bytes) {
  return guarded(message, message_bytes, [&] { inner(engine)->run(images, count, logits); }) ? 0 : 1;
}

size_t scpu_describe(ScpuEngine* engine, int images, char* text, size_t text_bytes) {
  size_t needed = 0;
  guarded(text, text_bytes, [&] {
    const std::string json = inner(engine)->describe(images);
    needed = json.size() + 1;
    say(text, text_bytes, json.c_str());
  });
  return needed;
}

void scpu_close(ScpuEngine* engine) { delete inner(engine); }
