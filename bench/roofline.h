// What this machine can do, measured in the same run as the benchmark that quotes it.
#pragma once

namespace onpa::bench {

/// Peak fp32 multiply-add rate in GFLOP/s of `threads` threads running at once (register-only FMA
/// chains; best of several short runs). Measured once per thread count and kept.
double peak_gflops(int threads);

/// Copy bandwidth in GB/s, bytes read plus bytes written, over buffers far larger than the caches,
/// on all threads of the pool. Measured once and kept.
double copy_gigabytes_per_second();

/// Peak resident set of this process so far, in MiB.
double peak_resident_mib();

}  // namespace onpa::bench
