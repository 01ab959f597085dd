// Hears every scope while it lives.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tensor/op_scope.h"

namespace onpa::testing {

class ScopeLog : public ScopeListener {
 public:
  struct Total {
    int calls = 0;
    double flops = 0, bytes = 0;
  };

  ScopeLog() { set_scope_listener(this); }
  ~ScopeLog() override { set_scope_listener(nullptr); }

  void begin(ScopeKind kind, const char* name, const OpWork& work) override {
    if (kind == ScopeKind::kOp) {
      nested_ops_ += open_ops_++ > 0;
      Total& total = ops[name];
      ++total.calls;
      total.flops += work.flops;
      total.bytes += work.bytes;
    } else {
      ++phases[name];
    }
    open_.push_back(kind);
  }
  void end() override {
    if (open_.empty()) {
      ++unmatched_;
      return;
    }
    open_ops_ -= open_.back() == ScopeKind::kOp;
    open_.pop_back();
  }

  /// Whether every scope that began has ended, and no op lay in another.
  bool balanced() const { return open_.empty() && unmatched_ == 0 && nested_ops_ == 0; }

  std::map<std::string, Total> ops;
  std::map<std::string, int> phases;

 private:
  std::vector<ScopeKind> open_;
  int open_ops_ = 0, nested_ops_ = 0, unmatched_ = 0;
};

}  // namespace onpa::testing
