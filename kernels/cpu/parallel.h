// The thread pool that every CPU kernel runs on. Threads sleep when idle, so they do not fight the
// data loader for cores.
#pragma once

#include <cstdint>
#include <functional>

namespace onpa::kernels {

/// Threads that parallel_for uses, the caller included; default: hardware threads, or the
/// environment's ONPA_THREADS. set_thread_count(n), n >= 1, must not run beside a parallel_for.
int thread_count();
void set_thread_count(int n);

/// Calls body(begin, end) over disjoint ranges that cover [0, n), each a multiple of `grain` long
/// but for the last, on up to thread_count() threads. Runs inline when one range suffices or when
/// called from inside another parallel_for. The first exception of a body is rethrown.
void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace onpa::kernels
