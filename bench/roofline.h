// What benchmarks share to hold their rates against what this machine can do, which is measured in
// the same run.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "kernels/cpu/roofline.h"

namespace onpa::bench {

using kernels::copy_gigabytes_per_second;
using kernels::peak_gflops;

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
