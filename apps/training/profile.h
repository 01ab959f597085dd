// Where the time of some steps goes: what `onpa train --profile` and `onpa bench` record.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/dtype.h"
#include "tensor/device_clock.h"
#include "tensor/op_scope.h"
#include "tensor/storage.h"

namespace onpa::apps {

/// Steps [begin, end) of a run: those that start when `begin` to `end` - 1 are done.
struct ProfileWindow {
  std::int64_t begin = 0, end = 0;
};

/// Reads "steps=A:B", 0 <= A < B, at most 1000 steps. Throws Error (kUsage) that says what is wrong
/// and what would be right.
ProfileWindow parse_profile(const std::string& text);

/// A scope that ended. Seconds count from the first step that was recorded.
struct ProfileEvent {
  const char* name = nullptr;
  ScopeKind kind = ScopeKind::kOp;
  OpWork work;
  double begin = 0, end = 0;  // of an op on the GPU: when its kernels began and ended there
};

/// Steps that were waited for together, one but for a taker that returns several.
struct ProfileSpan {
  std::int64_t step = 0, count = 0;
  double begin = 0, end = 0;
};

struct Profile {
  DeviceKind device = DeviceKind::kCpu;
  DType dtype = DType::kF32;  // of the model
  std::vector<ProfileEvent> events;
  std::vector<ProfileSpan> spans;
};

/// Listens to the scopes of the thread that made it, within the steps of a window.
class Profiler : public ScopeListener {
 public:
  Profiler(ProfileWindow window, DeviceKind device, DType dtype);
  ~Profiler() override;

  /// How many steps from `step` on lie on the same side of the window's edges, if any is ahead: no
  /// other may be begun before they are all waited for.
  std::int64_t steps_to_edge(std::int64_t step) const;
  /// Steps are taken from `step` on. On the GPU waits until it is idle.
  void begin_steps(std::int64_t step);
  /// `count` steps have been taken since begin_steps(), and all that was queued is done; if 0, what
  /// was heard is forgotten. Returns whether the window ended with them.
  bool end_steps(std::int64_t count);
  const Profile& profile() const { return profile_; }
  const ProfileWindow& window() const { return window_; }

  void begin(ScopeKind kind, const char* name, const OpWork& work) override;
  void end() override;

 private:
  struct Marks {
    std::size_t event, begin, end;
  };
  double now() const;
  void place_on_gpu();

  ProfileWindow window_;
  std::thread::id thread_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point zero_;
  Profile profile_;
  std::optional<PhaseScope> range_;   // what other tools see of the span
  std::optional<ProfileSpan> span_;   // under way
  std::size_t first_event_ = 0;       // of it
  std::vector<std::size_t> open_;     // events that have not ended
  std::optional<DeviceClock> clock_;  // where steps are taken on the GPU
  std::vector<Marks> marks_;          // of the span's ops there
};

}  // namespace onpa::apps
