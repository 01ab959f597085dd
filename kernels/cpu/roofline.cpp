#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/roofline.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Ten independent chains cover the latency times the width of two FMA ports. Each starts at a value
// of its own: equal ones the compiler would merge into one. Returns FLOPs done.
double fma_chains(std::int64_t rounds, float* sink) {
  constexpr int kChains = 10;
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V a = hn::Set(d, 0.999f), b = hn::Set(d, 1e-3f);
  V chain[kChains];
  for (int c = 0; c < kChains; ++c) chain[c] = hn::Set(d, 1.0f + 0.1f * static_cast<float>(c));
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) chain[c] = hn::MulAdd(chain[c], a, b);
  }
  V total = hn::Zero(d);
  for (int c = 0; c < kChains; ++c) total = hn::Add(total, chain[c]);
  *sink += hn::GetLane(hn::SumOfLanes(d, total));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
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
