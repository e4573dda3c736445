// A few threads that work on one task together. They sleep between tasks, so that an idle engine takes nothing from others.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace scpu {

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return int(workers_.size()) + 1; }
  // Calls task(id) once for every id below threads(), 0 on the calling thread; returns when all have returned.
  void run(const std::function<void(int)>& task);
  // Within a task: waits until every thread is here.
  void barrier();

 private:
  void work(int id);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int)>* task_ = nullptr;
  std::atomic<uint64_t> round_{0};
  bool stop_ = false;
  std::mutex barrier_mutex_;
  std::condition_variable barrier_wake_;
  std::atomic<int> arrived_{0};
  std::atomic<uint64_t> phase_{0};
};

}  // namespace scpu
