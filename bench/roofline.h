// What this machine can do, measured in the same run as the benchmark that quotes it, and what
// benchmarks share to be held against that.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

namespace onpa::bench {

/// Peak fp32 multiply-add rate in GFLOP/s of `threads` threads running at once (register-only FMA
/// chains; best of several short runs). Measured once per thread count and kept.
double peak_gflops(int threads);

/// Copy bandwidth in GB/s, bytes read plus bytes written, over buffers far larger than the caches,
/// on all threads of the pool. Measured once and kept.
double copy_gigabytes_per_second();

/// Adds the rate of an iteration of `flops` FLOPs and its share of peak_gflops(threads) to the
/// benchmark's counters. Call it after the loop.
void report_flops(benchmark::State& state, double flops, int threads);

/// The same for an iteration that must move `bytes`, read or written, and the copy bandwidth.
void report_bytes(benchmark::State& state, double bytes);

/// `n` normal draws.
std::vector<float> normal_values(std::int64_t n, std::uint64_t seed, double deviation = 1);

/// Peak resident set of this process so far, in MiB.
double peak_resident_mib();

}  // namespace onpa::bench
