#include "tensor/op_scope.h"

#include "tensor/memory_plan.h"
#include "tensor/nvtx.h"

namespace onpa {
namespace {

// Bits of scope_hearers.
constexpr int kListener = 1, kNvtx = 2, kNvtxUnknown = 4;

std::atomic<ScopeListener*> current_listener{nullptr};

// A tool attaches when NVTX is first called, so it is asked for at the first scope and not before
// main().
int known_hearers() {
  int hearers = detail::scope_hearers.load();
  while ((hearers & kNvtxUnknown) != 0) {
    const int known = (hearers & ~kNvtxUnknown) | (detail::nvtx_attached() ? kNvtx : 0);
    if (detail::scope_hearers.compare_exchange_weak(hearers, known)) return known;
  }
  return hearers;
}

}  // namespace

void set_scope_listener(ScopeListener* listener) {
  current_listener.store(listener);
  if (listener != nullptr) {
    detail::scope_hearers.fetch_or(kListener);
  } else {
    detail::scope_hearers.fetch_and(~kListener);
  }
}

bool has_scope_listener() {
  return current_listener.load() != nullptr;
}

namespace detail {

std::atomic<int> scope_hearers{kNvtxUnknown};

// Not while memory is planned: no kernel runs then.
bool Scope::heard_now() {
  return known_hearers() != 0 && !planning_memory();
}

void Scope::begin(ScopeKind kind, const char* name, const OpWork& work) {
  nvtx_ = (known_hearers() & kNvtx) != 0;
  listener_ = current_listener.load();
  begun_ = nvtx_ || listener_ != nullptr;
  if (nvtx_) nvtx_push(name);
  if (listener_ != nullptr) listener_->begin(kind, name, work);
}

void Scope::end() {
  if (listener_ != nullptr) listener_->end();
  if (nvtx_) nvtx_pop();
}

}  // namespace detail

#ifndef ONPA_CUDA

namespace detail {
bool nvtx_attached() {
  return false;
}
void nvtx_push(const char*) {}
void nvtx_pop() {}
}  // namespace detail

#endif

}  // namespace onpa
