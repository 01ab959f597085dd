#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/roofline.cpp"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Ten independent chains cover the latency times the width of two FMA ports. Returns FLOPs done.
double fma_chains(std::int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V a = hn::Set(d, 0.999f), b = hn::Set(d, 1e-3f);
  V c0 = hn::Set(d, 1.0f), c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0, c6 = c0, c7 = c0, c8 = c0,
    c9 = c0;
  for (std::int64_t i = 0; i < rounds; ++i) {
    c0 = hn::MulAdd(c0, a, b);
    c1 = hn::MulAdd(c1, a, b);
    c2 = hn::MulAdd(c2, a, b);
    c3 = hn::MulAdd(c3, a, b);
    c4 = hn::MulAdd(c4, a, b);
    c5 = hn::MulAdd(c5, a, b);
    c6 = hn::MulAdd(c6, a, b);
    c7 = hn::MulAdd(c7, a, b);
    c8 = hn::MulAdd(c8, a, b);
    c9 = hn::MulAdd(c9, a, b);
  }
  const V total = hn::Add(hn::Add(hn::Add(c0, c1), hn::Add(c2, c3)),
                          hn::Add(hn::Add(c4, c5), hn::Add(hn::Add(c6, c7), hn::Add(c8, c9))));
  *sink += hn::GetLane(hn::SumOfLanes(d, total));
  return 2.0 * 10.0 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/roofline.h"

namespace onpa::kernels {
namespace {

HWY_EXPORT(fma_chains);

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double measure_gflops(int threads) {
  constexpr std::int64_t kRounds = 20'000'000;
  double best = 0;
  for (int run = 0; run < 3; ++run) {
    std::vector<double> flops(threads);
    std::vector<float> sinks(threads * 16);
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) {
      others.emplace_back(
          [&, t] { flops[t] = HWY_DYNAMIC_DISPATCH(fma_chains)(kRounds, &sinks[t * 16]); });
    }
    flops[0] = HWY_DYNAMIC_DISPATCH(fma_chains)(kRounds, &sinks[0]);
    for (std::thread& other : others) other.join();
    double total = 0;
    for (const double f : flops) total += f;
    best = std::max(best, total / seconds_since(start) * 1e-9);
  }
  return best;
}

double measure_copy() {
  constexpr std::int64_t kBytes = std::int64_t{256} << 20;
  const std::unique_ptr<char[]> from(new char[kBytes]), to(new char[kBytes]);
  std::memset(from.get(), 1, kBytes);
  std::memset(to.get(), 2, kBytes);
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const auto start = std::chrono::steady_clock::now();
    kernels::parallel_for(kBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
      std::memcpy(to.get() + begin, from.get() + begin, end - begin);
    });
    best = std::max(best, 2.0 * kBytes / seconds_since(start) * 1e-9);
  }
  return best;
}

}  // namespace

double peak_gflops(int threads) {
  static std::map<int, double> measured;
  double& value = measured[threads];
  if (value == 0) value = measure_gflops(threads);
  return value;
}

double copy_gigabytes_per_second() {
  static const double value = measure_copy();
  return value;
}

}  // namespace onpa::kernels

#endif  // HWY_ONCE
