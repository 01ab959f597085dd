#include "kernels/cpu/parallel.h"

#include <hwy/cache_control.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/cpu/job_count.h"

namespace onpa::kernels {
namespace {

// Threads may lose each other's counts, which costs less than to keep them.
std::atomic<std::uint64_t> jobs{0};

thread_local bool inside_parallel = false;

// Handlers are for the main thread, which has a stack of their own: in generated code of oneDNN the
// stack pointer is no place to go on from.
void block_signals() {
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP}) {
    sigdelset(&blocked, number);
  }
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
}

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

// One job at a time, in ranges: the caller takes them from the front and workers from the back, so
// that of two threads each finds in its caches what it wrote in the job before. A worker enters a
// job that is open; the caller closes it once nothing is left to take and waits for those inside,
// not for one that is only waking up. Mutexes are for those that sleep.
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
    body_ = &body;
    n_ = n;
    step_ = step;
    ranges_ = static_cast<std::uint64_t>((n + step - 1) / step);
    taken_.store(0, std::memory_order_relaxed);
    error_ = nullptr;
    state_.store((state_.load() / kJob + 1) * kJob + kOpen);
    if (sleeping_workers_.load() > 0) {
      { std::lock_guard lock(mutex_); }
      wake_.notify_all();
    }
    drain(kFromFront);
    state_.fetch_and(~kOpen);
    const auto empty = [this] { return state_.load() % kOpen == 0; };
    if (!look_for(alone_, empty)) {
      std::unique_lock lock(mutex_);
      caller_sleeps_.store(true);
      done_.wait(lock, empty);
      caller_sleeps_.store(false);
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // The number of the job, whether it is open, and how many workers are inside.
  static constexpr std::uint64_t kOpen = std::uint64_t{1} << 20, kJob = 2 * kOpen;

  // What a range adds to `taken_`: how many were taken from the front, and above that from the
  // back.
  static constexpr std::uint64_t kFromFront = 1, kFromBack = std::uint64_t{1} << 32;

  void drain(std::uint64_t end) {
    inside_parallel = true;
    for (;;) {
      const std::uint64_t taken = taken_.fetch_add(end);
      const std::uint64_t front = taken % kFromBack, back = taken / kFromBack;
      if (front + back >= ranges_) break;
      const auto range = static_cast<std::int64_t>(end == kFromFront ? front : ranges_ - 1 - back);
      try {
        (*body_)(range * step_, std::min(n_, (range + 1) * step_));
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        taken_.store(ranges_);
      }
    }
    inside_parallel = false;
  }

  // Returns when there is another job than `seen`, or false if the pool ends.
  bool await_job(std::uint64_t seen) {
    const auto is_new = [&] { return state_.load() / kJob != seen; };
    if (look_for(alone_, is_new)) return true;
    std::unique_lock lock(mutex_);
    sleeping_workers_.fetch_add(1);
    wake_.wait(lock, [&] { return stopping_ || is_new(); });
    sleeping_workers_.fetch_sub(1);
    return !stopping_;
  }

  void work() {
    block_signals();
    std::uint64_t seen = 0;
    while (await_job(seen)) {
      std::uint64_t state = state_.load();
      seen = state / kJob;
      while ((state & kOpen) != 0 && state / kJob == seen) {
        if (!state_.compare_exchange_weak(state, state + 1)) continue;
        drain(kFromBack);
        if ((state_.fetch_sub(1) - 1) % kJob == 0 && caller_sleeps_.load()) {
          { std::lock_guard lock(mutex_); }
          done_.notify_one();
        }
        break;
      }
    }
  }

  const bool alone_;  // each thread can have a core
  std::vector<std::thread> workers_;
  std::mutex job_mutex_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(std::int64_t, std::int64_t)>* body_ = nullptr;
  std::int64_t n_ = 0, step_ = 1;
  std::uint64_t ranges_ = 0;
  std::exception_ptr error_;
  bool stopping_ = false;
  std::atomic<int> sleeping_workers_{0};
  std::atomic<bool> caller_sleeps_{false};
  // Lines of their own: others spin on the first, and both change while the rest is read.
  alignas(64) std::atomic<std::uint64_t> state_{0};
  alignas(64) std::atomic<std::uint64_t> taken_{0};
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

std::uint64_t job_count() {
  return jobs.load(std::memory_order_relaxed);
}

void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (n <= 0) return;
  jobs.store(jobs.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
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
