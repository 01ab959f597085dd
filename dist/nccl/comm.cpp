#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dist/nccl.h"
#include "dist/nccl/communicator.h"
#include "dist/nccl/stream.h"
#include "tensor/device.h"
#include "tensor/memory_plan.h"

namespace onpa::dist {
namespace {

using nccl::Communicator;
using nccl::EventPool;
using Kind = Collective::Kind;

// So many collectives are compared over the other Comm before they start. A run soon repeats
// itself.
constexpr int kCompared = 64;

// What a work needs of its Comm, which it may outlive.
struct Shared {
  Shared(Comm& control, double join_seconds) : communicator(control, join_seconds) {}
  EventPool events;
  Communicator communicator;
};

cudaStream_t main_stream() {
  return static_cast<cudaStream_t>(current_cuda().stream);
}

class NcclWork : public detail::WorkState {
 public:
  NcclWork(std::shared_ptr<Shared> shared, Collective collective)
      : shared_(std::move(shared)), collective_(std::move(collective)) {}

  const Collective& collective() const { return collective_; }
  // It is on the stream, and ends with `event`; null while memory is planned. In a capture that
  // is no event that could be asked.
  void queued(std::shared_ptr<Event> event, bool captured) {
    event_ = std::move(event);
    captured_ = captured;
    queued_ = true;
  }
  // Whether nothing uses the tensors any more but in the order of the main stream.
  bool over() const { return waited_ || (event_ && !captured_ && event_->reached()); }

  // After that their memory may be used anew, in that order.
  void wait() override {
    ONPA_CHECK(queued_, collective_.name(), ": waited for before its group has ended");
    if (event_ && !planning_memory()) {
      shared_->communicator.check();
      event_->wait_on(main_stream());
    }
    waited_ = true;
    collective_ = {};
  }
  bool done() override {
    if (waited_ || !event_) return queued_;
    if (captured_) return false;
    shared_->communicator.check();
    return event_->reached();
  }

 private:
  std::shared_ptr<Shared> shared_;
  Collective collective_;  // keeps the tensors until the wait
  std::shared_ptr<Event> event_;
  bool queued_ = false, captured_ = false, waited_ = false;
};

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kBF16:
      return ncclBfloat16;
    default:
      return ncclInt64;
  }
}

// What is sent and what is received belong together: in a group.
ncclResult_t shift(const Collective& c, int rank, int ranks, ncclComm_t comm, cudaStream_t stream) {
  const auto count = static_cast<std::size_t>(c.in.numel());
  const ncclDataType_t type = type_of(c.in.dtype());
  const int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  const ncclResult_t sent = ncclSend(c.in.bytes(), count, type, next, comm, stream);
  if (sent != ncclSuccess && sent != ncclInProgress) return sent;
  return ncclRecv(c.out.bytes(), count, type, previous, comm, stream);
}

ncclResult_t call(const Collective& c, int rank, int ranks, ncclComm_t comm, cudaStream_t stream) {
  const auto count = static_cast<std::size_t>(c.in.numel());
  const ncclDataType_t type = type_of(c.in.dtype());
  const ncclRedOp_t op = c.op == ReduceOp::kSum ? ncclSum : ncclMax;
  switch (c.kind) {
    case Kind::kAllReduce:
      return ncclAllReduce(c.in.bytes(), c.out.bytes(), count, type, op, comm, stream);
    case Kind::kBroadcast:
      return ncclBroadcast(c.in.bytes(), c.out.bytes(), count, type, c.root, comm, stream);
    case Kind::kAllGather:
      return ncclAllGather(c.in.bytes(), c.out.bytes(), count, type, comm, stream);
    case Kind::kReduceScatter:
      return ncclReduceScatter(c.in.bytes(), c.out.bytes(), static_cast<std::size_t>(c.out.numel()),
                               type, op, comm, stream);
    case Kind::kShift:
      return shift(c, rank, ranks, comm, stream);
    case Kind::kBarrier:
      break;
  }
  return ncclInvalidArgument;
}

class NcclComm : public Comm {
 public:
  NcclComm(Comm& control, double join_seconds)
      : Comm(control.rank(), control.size()),
        control_(control),
        shared_(std::make_shared<Shared>(control, join_seconds)),
        watch_([shared = shared_] { shared->communicator.check(); }) {}

  ~NcclComm() override {
    // A rank that fails does not wait for the others: they may never come.
    if (std::uncaught_exceptions() > 0) shared_->communicator.abandon();
    try {
      stream_.synchronize();
    } catch (const Error&) {
      // The communicator was abandoned, and with it what was queued.
    }
  }

  void begin_group() override {
    ONPA_CHECK(!grouping_, "a group of collectives within another");
    grouping_ = true;
    group_.clear();
  }
  void end_group() override {
    grouping_ = false;
    const auto works = std::exchange(group_, {});
    if (!works.empty()) queue(works);
  }

  // May be called from any thread: what is queued ends with the process.
  void abort(int code) override { control_.abort(code); }

 protected:
  Work start(Collective c) override {
    if (c.kind == Kind::kBarrier) {
      stream_.synchronize();
      control_.barrier();
      return {};
    }
    if (c.in.device() == DeviceKind::kCpu) return start_on_control(c);
    const DType dtype = c.in.dtype();
    ONPA_CHECK(dtype != DType::kI32, "rank ", rank(), ": ", c.name(),
               ": want f32, f64, bf16 or i64");
    if (c.in.numel() == 0) return {};
    auto work = std::make_shared<NcclWork>(shared_, std::move(c));
    if (grouping_) {
      group_.push_back(work);
    } else {
      queue({work});
    }
    return Work(std::move(work));
  }

 private:
  using Works = std::vector<std::shared_ptr<NcclWork>>;

  Work start_on_control(const Collective& c) {
    switch (c.kind) {
      case Kind::kAllReduce:
        return control_.start_all_reduce(c.in, c.op);
      case Kind::kBroadcast:
        return control_.start_broadcast(c.in, c.root);
      case Kind::kAllGather:
        return control_.start_all_gather(c.in, c.out);
      case Kind::kReduceScatter:
        return control_.start_reduce_scatter(c.in, c.out, c.op);
      case Kind::kShift:
        return control_.start_shift(c.in, c.out);
      case Kind::kBarrier:
        break;
    }
    fail(ExitCode::kInternal, c.name(), ": has no tensors");
  }

  void queue(const Works& works) {
    if (planning_memory()) {
      for (const auto& work : works) work->queued(nullptr, false);
      return;
    }
    for (const auto& work : works) compare(work->collective());
    // What nobody has waited for keeps its tensors until it has ended. A capture forbids to ask.
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    ONPA_CUDA_CHECK(cudaStreamIsCapturing(main_stream(), &status));
    const bool captured = status != cudaStreamCaptureStatusNone;
    if (!captured) std::erase_if(unwaited_, [](const auto& work) { return work->over(); });
    const std::shared_ptr<Event> before = shared_->events.get(), after = shared_->events.get();
    before->record(main_stream());
    before->wait_on(stream_.get());
    const bool several = works.size() > 1 || works.front()->collective().kind == Kind::kShift;
    shared_->communicator.queue(several, [&](ncclComm_t comm) {
      ncclResult_t result = ncclSuccess;
      for (const auto& work : works) {
        const ncclResult_t one = call(work->collective(), rank(), size(), comm, stream_.get());
        if (result == ncclSuccess || result == ncclInProgress) result = one;
      }
      return result;
    });
    after->record(stream_.get());
    for (const auto& work : works) {
      work->queued(after, captured);
      unwaited_.push_back(work);
    }
  }

  // NCCL itself would wait for ever, or mix up the data.
  void compare(const Collective& c) {
    if (compared_ == kCompared) return;
    ++compared_;
    const std::vector<std::int64_t> mine = {static_cast<std::int64_t>(c.kind),
                                            static_cast<std::int64_t>(c.op), c.root, c.in.numel(),
                                            static_cast<std::int64_t>(c.in.dtype())};
    const auto width = static_cast<std::int64_t>(mine.size());
    const Tensor all = Tensor::zeros({size() * width}, DType::kI64);
    control_.all_gather(Tensor::from<std::int64_t>({width}, mine), all);
    const auto* of = all.data<std::int64_t>();
    for (int other = 1; other < size(); ++other) {
      const auto* theirs = of + other * width;
      ONPA_CHECK(std::equal(theirs, theirs + width, of), "rank 0 calls ", text_of(of), "; rank ",
                 other, " ", text_of(theirs), " (seen on rank ", rank(), ")");
    }
  }

  static std::string text_of(const std::int64_t* values) {
    const Collective c{static_cast<Kind>(values[0]),
                       {},
                       {},
                       static_cast<ReduceOp>(values[1]),
                       static_cast<int>(values[2])};
    return onpa::detail::concat(c.name(), " of ", values[3], " ",
                                name_of(static_cast<DType>(values[4])));
  }

  Comm& control_;
  std::shared_ptr<Shared> shared_;
  nccl::Stream stream_;
  DeviceWatch watch_;
  Works unwaited_, group_;
  bool grouping_ = false;
  int compared_ = 0;
};

}  // namespace

bool has_nccl() {
  return true;
}

std::unique_ptr<Comm> make_nccl_comm(Comm& control, double join_seconds) {
  return std::make_unique<NcclComm>(control, join_seconds);
}

}  // namespace onpa::dist
