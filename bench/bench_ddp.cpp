// How much of the reduction of gradients a training step hides behind its backward pass. The link
// is made up: its all_reduces take as long as their bytes need at a bandwidth that is chosen so
// that they take a given share of the time of a backward pass, and cost no arithmetic.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "bench/passt_step.h"
#include "dist/ddp.h"
#include "tensor/autograd.h"

namespace onpa::dist {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// Ends at a time of the clock.
class Until : public detail::WorkState {
 public:
  explicit Until(Clock::time_point end) : end_(end) {}
  void wait() override {
    std::unique_lock lock(mutex_);
    never_.wait_until(lock, end_, [] { return false; });
  }
  bool done() override { return Clock::now() >= end_; }

 private:
  const Clock::time_point end_;
  std::mutex mutex_;
  std::condition_variable never_;
};

// One rank's view of a link that carries one collective after another.
class Link : public Comm {
 public:
  explicit Link(double seconds_per_byte) : Comm(0, 2), seconds_per_byte_(seconds_per_byte) {}
  void abort(int) override { std::abort(); }

 protected:
  Work start(Collective c) override {
    const double seconds = seconds_per_byte_ * static_cast<double>(c.in.byte_count());
    free_ = std::max(free_, Clock::now()) +
            std::chrono::duration_cast<Clock::duration>(Seconds(seconds));
    return Work(std::make_shared<Until>(free_));
  }

 private:
  const double seconds_per_byte_;
  Clock::time_point free_{};
};

nn::PasstConfig small_passt() {
  nn::PasstConfig config = nn::PasstConfig::preset("passt-s");
  config.width = 192;
  config.heads = 3;
  config.mlp = 768;
  return config;
}

// Of a backward pass that reduces nothing, the fastest of several.
double backward_seconds(bench::PasstStep& step) {
  double least = 1e9;
  for (int i = 0; i < 6; ++i) {
    const Tensor y = step.loss();
    const auto begin = Clock::now();
    onpa::backward(y);
    least = std::min(least, Seconds(Clock::now() - begin).count());
  }
  return least;
}

void exposed_reduction(benchmark::State& state) {
  bench::PasstStep step(small_passt(), 2);
  const double backward = backward_seconds(step);
  const double reduction = backward * static_cast<double>(state.range(0)) / 100;
  const auto bytes = static_cast<double>(step.params.grad().byte_count());
  Link link(reduction / bytes);
  Ddp ddp(link, step.params, {.first_bytes = 1 << 18, .bytes = 2 << 20});
  const auto run = [&] {
    const Tensor loss = step.loss();
    ddp.backward(loss);
    const auto begin = Clock::now();
    ddp.wait();
    return Seconds(Clock::now() - begin).count();
  };
  run();  // learns the order
  double exposed = 1e9;
  for (auto _ : state) exposed = std::min(exposed, run());
  // Where the pass ends; the unused head's bucket comes after it.
  double last = 0;
  for (const Bucket& b : {ddp.buckets().front(), ddp.buckets().back()}) {
    last += 4 * static_cast<double>(b.end - b.begin) / bytes * reduction;
  }
  state.counters["backward_ms"] = backward * 1e3;
  state.counters["reduction_ms"] = reduction * 1e3;
  state.counters["last_buckets_ms"] = last * 1e3;
  state.counters["exposed_ms"] = exposed * 1e3;
  state.counters["buckets"] = static_cast<double>(ddp.buckets().size());
}
BENCHMARK(exposed_reduction)
    ->ArgName("percent")
    ->Arg(25)
    ->Arg(50)
    ->Arg(80)
    ->Iterations(10)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace onpa::dist

BENCHMARK_MAIN();
