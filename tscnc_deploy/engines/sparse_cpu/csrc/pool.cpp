#include "pool.hpp"

namespace scpu {
namespace {

// Between two layers the others arrive within microseconds; who waits longer sleeps, for the others may need its core.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int threads) {
  for (int id = 1; id < threads; id++) workers_.emplace_back([this, id] { work(id); });
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::run(const std::function<void(int)>& task) {
  if (workers_.empty()) return task(0);
  {
    const std::lock_guard lock(mutex_);
    task_ = &task;
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  task(0);
  barrier();
}

void Pool::barrier() {
  const uint64_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads()) {
    arrived_.store(0, std::memory_order_relaxed);
    {
      // Under the lock, so that no one can fall asleep between looking at the phase and waiting for its change.
      const std::lock_guard lock(barrier_mutex_);
      phase_.store(phase + 1, std::memory_order_release);
    }
    barrier_wake_.notify_all();
    return;
  }
  for (int spin = 0; spin < kSpins; spin++) {
    if (phase_.load(std::memory_order_acquire) != phase) return;
    pause();
  }
  std::unique_lock lock(barrier_mutex_);
  barrier_wake_.wait(lock, [&] { return phase_.load(std::memory_order_relaxed) != phase; });
}

void Pool::work(int id) {
  uint64_t seen = 0;
  for (;;) {
    // The next batch of a busy caller comes at once.
    for (int spin = 0; spin < kSpins && round_.load(std::memory_order_acquire) == seen; spin++) pause();
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || round_.load(std::memory_order_relaxed) != seen; });
      if (stop_) return;
      seen = round_.load(std::memory_order_relaxed);
    }
    (*task_)(id);
    barrier();
  }
}

}  // namespace scpu
