#include "kernels/cpu/parallel.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace onpa::kernels {
namespace {

thread_local bool inside_parallel = false;

// How long a thread without work looks for some before it sleeps, about 20 us: kernels of a small
// network follow each other in less, and waking a core takes longer. Never longer, as the loader's
// threads want the core too.
constexpr int kLooks = 1000;

// Looks until `done` or for long enough; false at once where threads share cores.
template <class Done>
bool look_for(bool alone, const Done& done) {
  for (int i = 0; alone && i < kLooks; ++i) {
    if (done()) return true;
    hwy::Pause();
  }
  return false;
}

// One job at a time: ranges are handed out through an atomic cursor.
class Pool {
 public:
  explicit Pool(int threads)
      : alone_(threads <= static_cast<int>(std::thread::hardware_concurrency())) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(std::int64_t n, std::int64_t step,
           const std::function<void(std::int64_t, std::int64_t)>& body) {
    std::lock_guard one_job(job_mutex_);
    {
      std::lock_guard lock(mutex_);
      body_ = &body;
      n_ = n;
      step_ = step;
      cursor_.store(0);
      error_ = nullptr;
      busy_.store(static_cast<int>(workers_.size()));
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    drain();
    look_for(alone_, [this] { return busy_.load() == 0; });
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    body_ = nullptr;
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void drain() {
    inside_parallel = true;
    for (;;) {
      const std::int64_t begin = cursor_.fetch_add(step_);
      if (begin >= n_) break;
      try {
        (*body_)(begin, std::min(n_, begin + step_));
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        cursor_.store(n_);
      }
    }
    inside_parallel = false;
  }

  void work() {
    std::uint64_t seen = 0;
    for (;;) {
      look_for(alone_, [&] { return generation_.load() != seen; });
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_.load() != seen; });
        if (stopping_) return;
        seen = generation_.load();
      }
      drain();
      std::lock_guard lock(mutex_);
      if (busy_.fetch_sub(1) == 1) done_.notify_one();
    }
  }

  const bool alone_;  // each thread can have a core
  std::vector<std::thread> workers_;
  std::mutex job_mutex_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(std::int64_t, std::int64_t)>* body_ = nullptr;
  std::int64_t n_ = 0, step_ = 1;
  std::atomic<std::int64_t> cursor_{0};
  std::exception_ptr error_;
  std::atomic<int> busy_{0};
  std::atomic<std::uint64_t> generation_{0};
  bool stopping_ = false;
};

int default_threads() {
  if (const char* text = std::getenv("ONPA_THREADS")) {
    const int n = std::atoi(text);
    if (n >= 1) return n;
  }
  return std::max(1u, std::thread::hardware_concurrency());
}

std::unique_ptr<Pool>& pool() {
  static std::unique_ptr<Pool> instance = std::make_unique<Pool>(default_threads());
  return instance;
}

}  // namespace

int thread_count() {
  return pool()->threads();
}

void set_thread_count(int n) {
  if (n != thread_count()) pool() = std::make_unique<Pool>(std::max(1, n));
}

void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<std::int64_t>(1, grain);
  const int threads = inside_parallel ? 1 : thread_count();
  if (threads == 1 || n <= grain) {
    body(0, n);
    return;
  }
  // A few ranges per thread, so that one delayed thread does not hold up the rest.
  const std::int64_t wanted = (n + threads * 4 - 1) / (threads * 4);
  const std::int64_t step = (std::max(wanted, grain) + grain - 1) / grain * grain;
  pool()->run(n, step, body);
}

}  // namespace onpa::kernels
