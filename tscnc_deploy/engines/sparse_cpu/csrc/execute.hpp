// Runs a plan in an arena; several threads may share one execution.
#pragma once

#include "plan.hpp"
#include "pool.hpp"
#include "shares.hpp"

namespace scpu {

// Computes the logits of plan.images images.
//   arena: plan.arena_bytes, and plan.scratch_bytes for every thread
//   images: [images, c, h, w]; logits: [images, classes]
//   pool: null if this thread works alone; else all its threads call this with their own id and the same arguments.
//   nanoseconds: null, or per step the time of thread 0, which is added up.
void execute(const Plan& plan, const Shares& shares, char* arena, const float* images, float* logits, int thread,
             Pool* pool, int64_t* nanoseconds);

}  // namespace scpu
