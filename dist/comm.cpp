#include "dist/comm.h"

#include "tensor/io/fault.h"

namespace onpa::dist {
namespace {

const char* kind_name(Collective::Kind kind) {
  switch (kind) {
    case Collective::Kind::kAllReduce:
      return "all_reduce";
    case Collective::Kind::kBroadcast:
      return "broadcast";
    case Collective::Kind::kAllGather:
      return "all_gather";
    case Collective::Kind::kReduceScatter:
      return "reduce_scatter";
    case Collective::Kind::kShift:
      return "shift";
    case Collective::Kind::kBarrier:
      return "barrier";
  }
  return "?";
}

std::string call_name(Collective::Kind kind, ReduceOp op, int root) {
  std::string text = kind_name(kind);
  if (kind == Collective::Kind::kAllReduce || kind == Collective::Kind::kReduceScatter) {
    text += op == ReduceOp::kSum ? " (sum)" : " (max)";
  }
  if (kind == Collective::Kind::kBroadcast) text += " from rank " + std::to_string(root);
  return text;
}

std::string operand_name(std::int64_t numel, DType dtype) {
  return " of " + std::to_string(numel) + " " + name_of(dtype);
}

}  // namespace

std::string Collective::name() const {
  return call_name(kind, op, root) + (in.defined() ? operand_name(in.numel(), in.dtype()) : "");
}

bool Collective::matches(const Collective& other) const {
  if (kind != other.kind || op != other.op || root != other.root) return false;
  if (!in.defined()) return true;
  return in.numel() == other.in.numel() && in.dtype() == other.in.dtype();
}

void Comm::check(const Collective& c) const {
  const auto refuse = [&](const auto&... why) {
    fail(ExitCode::kInternal, "rank ", rank_, ": ", kind_name(c.kind), ": ", why...);
  };
  if (!c.in.defined() || !c.out.defined()) refuse("a tensor is undefined");
  if (c.in.dtype() != c.out.dtype() || c.in.device() != c.out.device()) {
    refuse(name_of(c.in.dtype()), " into ", name_of(c.out.dtype()), ", or on two devices");
  }
  const std::int64_t in = c.in.numel(), out = c.out.numel();
  if (c.kind == Collective::Kind::kAllGather && out != size_ * in) {
    refuse(in, " elements of each of ", size_, " ranks into ", out);
  }
  if (c.kind == Collective::Kind::kReduceScatter && in != size_ * out) {
    refuse(in, " elements into parts of ", out, " on ", size_, " ranks");
  }
  if (c.kind == Collective::Kind::kShift && in != out) {
    refuse(in, " elements to the next rank, ", out, " from the previous one");
  }
  if (c.root < 0 || c.root >= size_) refuse("root ", c.root, " of ", size_, " ranks");
}

Work Comm::count_and_start(const Collective& c) {
  io::fault_site(io::FaultSite::kCollective);
  {
    const std::lock_guard lock(calls_mutex_);
    ++calls_;
    last_call_ = {c.kind, c.op, c.root, c.in.defined() ? c.in.numel() : 0,
                  c.in.defined() ? c.in.dtype() : DType::kF32};
  }
  return start(c);
}

Comm::Calls Comm::calls() const {
  const std::lock_guard lock(calls_mutex_);
  if (calls_ == 0) return {};
  const CallShape& c = last_call_;
  const bool bare = c.kind == Collective::Kind::kBarrier;
  return {calls_, call_name(c.kind, c.op, c.root) + (bare ? "" : operand_name(c.numel, c.dtype))};
}

void Comm::send_note(int, const std::string&) {}

std::vector<Note> Comm::take_notes() {
  return {};
}

Work Comm::start_all_reduce(const Tensor& x, ReduceOp op) {
  const Collective c{Collective::Kind::kAllReduce, x, x, op, 0};
  check(c);
  return count_and_start(c);
}

Work Comm::start_broadcast(const Tensor& x, int root) {
  const Collective c{Collective::Kind::kBroadcast, x, x, ReduceOp::kSum, root};
  check(c);
  return count_and_start(c);
}

Work Comm::start_all_gather(const Tensor& x, const Tensor& all) {
  const Collective c{Collective::Kind::kAllGather, x, all, ReduceOp::kSum, 0};
  check(c);
  return count_and_start(c);
}

Work Comm::start_reduce_scatter(const Tensor& all, const Tensor& part, ReduceOp op) {
  const Collective c{Collective::Kind::kReduceScatter, all, part, op, 0};
  check(c);
  return count_and_start(c);
}

Work Comm::start_shift(const Tensor& x, const Tensor& from_previous) {
  const Collective c{Collective::Kind::kShift, x, from_previous, ReduceOp::kSum, 0};
  check(c);
  return count_and_start(c);
}

void Comm::barrier() {
  count_and_start({}).wait();
}

}  // namespace onpa::dist
