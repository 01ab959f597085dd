// Names for what the program is doing: a scope around each kernel that an op starts and around each
// phase of a step. NVTX passes them on to NVIDIA's tools, a ScopeListener to the profiler.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace onpa {

enum class ScopeKind : std::uint8_t {
  kOp,     // a kernel, or a few that go together; no scope of this kind lies in another
  kPhase,  // "forward", "update", a block of a model
  kWait,   // for data
};

/// FLOPs of an op, and the bytes that it moves at least: each operand read once, each result
/// written once. tensor/ops/work.h says how they are counted.
struct OpWork {
  double flops = 0, bytes = 0;
};

class ScopeListener {
 public:
  virtual ~ScopeListener() = default;
  /// `name` lives as long as the program. `work` is zero unless `kind` is kOp.
  virtual void begin(ScopeKind kind, const char* name, const OpWork& work) = 0;
  /// Ends the scope of this thread that began last.
  virtual void end() = 0;
};

/// Tells `listener` of the scopes that begin from now on, on any thread; nobody if null. It must
/// live until the last of them has ended. Steps on the GPU start their kernels one by one as long
/// as somebody listens, as a replayed graph runs no scopes.
void set_scope_listener(ScopeListener* listener);
bool has_scope_listener();

namespace detail {

// 0: nobody hears of scopes.
extern std::atomic<int> scope_hearers;

class Scope {
 public:
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 protected:
  Scope() = default;
  ~Scope() {
    if (begun_) end();
  }
  static bool heard() { return scope_hearers.load(std::memory_order_relaxed) != 0 && heard_now(); }
  void begin(ScopeKind kind, const char* name, const OpWork& work);

 private:
  static bool heard_now();
  void end();

  bool begun_ = false, nvtx_ = false;
  ScopeListener* listener_ = nullptr;
};

}  // namespace detail

/// One op. `work()` returns its OpWork and is called only if somebody hears of the scope.
class OpScope : detail::Scope {
 public:
  template <class Work>
  OpScope(const char* name, Work&& work) {
    if (heard()) begin(ScopeKind::kOp, name, std::forward<Work>(work)());
  }
};

class PhaseScope : detail::Scope {
 public:
  explicit PhaseScope(const char* name, ScopeKind kind = ScopeKind::kPhase) {
    if (heard()) begin(kind, name, {});
  }
};

}  // namespace onpa
