/* The functions that Python calls (see library.py). Those that return int give 0, or 1 after writing a message. */
#ifndef SCPU_API_H
#define SCPU_API_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SCPU_API __declspec(dllexport)
#else
#define SCPU_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ScpuEngine ScpuEngine;

/* Raised whenever a function or the form of programs changes. */
SCPU_API int scpu_version(void);
/* Name of the instruction set behind "auto", "avx512", "avx2", "neon" or "portable"; null if it does not run here. */
SCPU_API const char* scpu_instructions(const char* name);
/* Does multiply-adds in registers alone and returns how many, for measuring the peak of the processor; 0 if unavailable. */
SCPU_API int64_t scpu_spin(const char* instructions, int64_t rounds);
SCPU_API ScpuEngine* scpu_open(const void* program, size_t bytes, const char* instructions, int threads, char* message,
                               size_t message_bytes);
SCPU_API int scpu_run(ScpuEngine* engine, const float* images, int64_t count, float* logits, char* message,
                      size_t message_bytes);
/* Writes JSON to `text` and returns the bytes that it needs with its final zero; 0 after an error. */
SCPU_API size_t scpu_describe(ScpuEngine* engine, int images, char* text, size_t text_bytes);
SCPU_API void scpu_close(ScpuEngine* engine);

#ifdef __cplusplus
}
#endif

#endif
