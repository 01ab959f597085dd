// Whether the GPU's matrix products may choose how they run by timing it. Off unless asked for:
// times differ from run to run, so choices can, and with them the last bits of results.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace onpa::kernels {

namespace detail {

struct GemmTuning {
  std::atomic<bool> on = false;
  std::mutex mutex;
  std::vector<std::string> choices;
};
inline GemmTuning& gemm_tuning_state() {
  static GemmTuning state;
  return state;
}

}  // namespace detail

/// For the whole process. On: each product is timed at its first run outside of a stream's capture
/// (cuBLASLt's candidates, and whether the pass after it that has the activation adds the bias
/// too), and runs the fastest way from then on. Off: everything runs the way that cuBLASLt names
/// first, as if nothing had been timed.
inline void set_gemm_tuning(bool on) {
  detail::gemm_tuning_state().on = on;
}
inline bool gemm_tuning() {
  return detail::gemm_tuning_state().on;
}

/// What was chosen in this process, a line for each product, in the order of first use.
inline std::vector<std::string> gemm_choices() {
  detail::GemmTuning& state = detail::gemm_tuning_state();
  const std::lock_guard lock(state.mutex);
  return state.choices;
}
inline void record_gemm_choice(std::string line) {
  detail::GemmTuning& state = detail::gemm_tuning_state();
  const std::lock_guard lock(state.mutex);
  state.choices.push_back(std::move(line));
}

}  // namespace onpa::kernels
