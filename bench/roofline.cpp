#include "bench/roofline.h"

#include <sys/resource.h>

#include "kernels/philox.h"

namespace onpa::bench {

void report_flops(benchmark::State& state, double flops, int threads) {
  const double gflop = flops * 1e-9 * static_cast<double>(state.iterations());
  state.counters["gflops"] = benchmark::Counter(gflop, benchmark::Counter::kIsRate);
  state.counters["share_of_fma_peak"] =
      benchmark::Counter(gflop / peak_gflops(threads), benchmark::Counter::kIsRate);
}

void report_bytes(benchmark::State& state, double bytes) {
  const double gigabytes = bytes * 1e-9 * static_cast<double>(state.iterations());
  state.counters["GB"] = benchmark::Counter(gigabytes, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(gigabytes / copy_gigabytes_per_second(), benchmark::Counter::kIsRate);
}

std::vector<float> normal_values(std::int64_t n, std::uint64_t seed, double deviation) {
  Philox rng({.seed = seed, .stream = kStreamTest});
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& v : out) v = static_cast<float>(deviation * rng.normal());
  return out;
}

double peak_resident_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

}  // namespace onpa::bench
