#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/roofline.cpp"
#include "hwy/cache_control.h"
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

// Copies whole vectors, without reading first what it overwrites. Both are aligned to a vector.
void stream_floats(const float* HWY_RESTRICT from, float* HWY_RESTRICT to, std::int64_t count) {
  const hn::ScalableTag<float> d;
  for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    hn::Stream(hn::Load(d, from + i), d, to + i);
  }
  hwy::FlushStream();
}

}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/roofline.h"

namespace onpa::kernels {
namespace {

HWY_EXPORT(fma_chains);
HWY_EXPORT(stream_floats);

constexpr std::int64_t kCopied = std::int64_t{64} << 20;  // floats

// Runs body(t) on `threads` threads at once; returns the seconds that all took.
double seconds_of(int threads, const std::function<void(int)>& body) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(body, t);
  body(0);
  for (std::thread& other : others) other.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

hwy::AlignedFreeUniquePtr<float[]> filled_floats(float value) {
  auto out = hwy::AllocateAligned<float>(kCopied);
  if (out == nullptr) throw std::bad_alloc();
  std::fill_n(out.get(), kCopied, value);
  return out;
}

}  // namespace

double measure_gflops(int threads) {
  constexpr std::int64_t kRounds = 5'000'000;
  double best = 0;
  for (int run = 0; run < 3; ++run) {
    std::vector<double> flops(threads);
    std::vector<float> sinks(threads * 16);
    const double seconds = seconds_of(threads, [&](int t) {
      flops[t] = HWY_DYNAMIC_DISPATCH(fma_chains)(kRounds, &sinks[t * 16]);
    });
    best = std::max(best, std::accumulate(flops.begin(), flops.end(), 0.0) / seconds * 1e-9);
  }
  return best;
}

double measure_copy_gigabytes_per_second(int threads) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 18;
  const auto from = filled_floats(1), to = filled_floats(2);
  double best = 0;
  for (int run = 0; run < 8; ++run) {
    std::atomic<std::int64_t> next{0};
    const double seconds = seconds_of(threads, [&](int) {
      for (std::int64_t at = next.fetch_add(kPiece); at < kCopied; at = next.fetch_add(kPiece)) {
        if (run % 2 == 0) {
          std::memcpy(to.get() + at, from.get() + at, kPiece * sizeof(float));
        } else {
          HWY_DYNAMIC_DISPATCH(stream_floats)(from.get() + at, to.get() + at, kPiece);
        }
      }
    });
    best = std::max(best, 2e-9 * sizeof(float) * kCopied / seconds);
  }
  return best;
}

double peak_gflops(int threads) {
  static std::map<int, double> measured;
  double& value = measured[threads];
  if (value == 0) value = measure_gflops(threads);
  return value;
}

double copy_gigabytes_per_second() {
  static const double value = measure_copy_gigabytes_per_second(thread_count());
  return value;
}

}  // namespace onpa::kernels

#endif  // HWY_ONCE
