// What this machine can do at most, measured in the same run as the rates that are held against it.
#pragma once

namespace onpa::kernels {

/// Peak fp32 multiply-add rate in GFLOP/s of `threads` threads running at once (register-only FMA
/// chains; best of several short runs). Measured once per thread count and kept.
double peak_gflops(int threads);

/// Copy bandwidth in GB/s, bytes read plus bytes written, over two buffers of 256 MiB, on all
/// threads of the pool: the better of memcpy and of stores past the caches. Measured once and kept.
double copy_gigabytes_per_second();

/// The same two as they are right now: shared machines drift. They start threads of their own.
double measure_gflops(int threads);
double measure_copy_gigabytes_per_second(int threads);

}  // namespace onpa::kernels
