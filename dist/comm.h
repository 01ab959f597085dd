// Comm: what the ranks of a job do together. A rank is one copy of the program with its own model;
// all start the same collectives, on the same shapes and types, in the same order.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace onpa::dist {

enum class ReduceOp { kSum, kMax };

/// One collective as a backend gets it, its arguments checked.
struct Collective {
  enum class Kind { kAllReduce, kBroadcast, kAllGather, kReduceScatter, kShift, kBarrier };
  Kind kind = Kind::kBarrier;
  Tensor in, out;  // the same tensor where it works in place; undefined for a barrier
  ReduceOp op = ReduceOp::kSum;
  int root = 0;

  /// For messages: "all_reduce (sum) of 1024 f32".
  std::string name() const;
  /// Whether this is what the other ranks have to call to go with `other`.
  bool matches(const Collective& other) const;
};

namespace detail {

class WorkState {
 public:
  virtual ~WorkState() = default;
  virtual void wait() = 0;
  virtual bool done() = 0;
};

}  // namespace detail

/// A collective that was started. It goes on without this handle too; its tensors live until then.
class Work {
 public:
  /// Nothing to wait for.
  Work() = default;
  explicit Work(std::shared_ptr<detail::WorkState> state) : state_(std::move(state)) {}

  /// Returns when the result is there: on the CPU for any reader, on the GPU for what this thread
  /// queues from then on. May be called again. Throws Error if the collective failed; the message
  /// names rank and collective, the code is kStopped if another rank is lost.
  void wait() {
    if (state_) state_->wait();
  }
  /// Whether wait() would return, or throw, at once.
  bool done() const { return !state_ || state_->done(); }

 private:
  std::shared_ptr<detail::WorkState> state_;
};

/// A few words of one rank to another.
struct Note {
  int from = 0;
  std::string text;
};

/// The ranks of one job. A Comm belongs to one thread of its rank. Collectives run one after
/// another in the order in which they were started, beside whatever that thread does meanwhile;
/// their tensors must be left alone until wait(). The results have the same bits on all ranks,
/// whatever the timing. On the CPU they do not depend on backend and network either: a sum is
/// ((x0 + x1) + x2) + ..., by rank, and a maximum is NaN where any rank has one (nccl.h: the GPU).
///
/// Types: f32, f64 and i64 on the CPU. A call with another type, a tensor on another device than
/// the backend's or sizes that do not fit together throws Error (kInternal) naming the collective.
class Comm {
 public:
  virtual ~Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// x, any shape, becomes the sum or the maximum over the ranks, element by element.
  [[nodiscard]] Work start_all_reduce(const Tensor& x, ReduceOp op = ReduceOp::kSum);
  /// x, any shape, becomes what it is on rank `root`.
  [[nodiscard]] Work start_broadcast(const Tensor& x, int root = 0);
  /// `all`, size() * numel of x, becomes the x of rank 0, then that of rank 1, ... In place where x
  /// is block rank() of `all`; any other overlap is an error that is not looked for.
  [[nodiscard]] Work start_all_gather(const Tensor& x, const Tensor& all);
  /// `part` becomes block rank() of what all_reduce would make of `all`, size() * numel of part.
  /// `all` is left as it is, but where `part` is block rank() of it.
  [[nodiscard]] Work start_reduce_scatter(const Tensor& all, const Tensor& part,
                                          ReduceOp op = ReduceOp::kSum);
  /// `from_previous` becomes the x of rank rank() - 1, of the last rank on rank 0; both are of one
  /// size and do not overlap. Every link of a ring carries x once.
  [[nodiscard]] Work start_shift(const Tensor& x, const Tensor& from_previous);

  /// The same, waited for.
  void all_reduce(const Tensor& x, ReduceOp op = ReduceOp::kSum) { start_all_reduce(x, op).wait(); }
  void broadcast(const Tensor& x, int root = 0) { start_broadcast(x, root).wait(); }
  void all_gather(const Tensor& x, const Tensor& all) { start_all_gather(x, all).wait(); }
  void reduce_scatter(const Tensor& all, const Tensor& part, ReduceOp op = ReduceOp::kSum) {
    start_reduce_scatter(all, part, op).wait();
  }
  void shift(const Tensor& x, const Tensor& from_previous) { start_shift(x, from_previous).wait(); }
  /// Returns when all ranks have called it, and so have ended all that they started before.
  void barrier();

  /// What is started between these two may begin together, none of it before the second, and is
  /// not waited for before that. It may cost less than one by one.
  virtual void begin_group() {}
  virtual void end_group() {}

  /// The collective that this rank has started last, and how many it has started. From any thread.
  struct Calls {
    std::uint64_t count = 0;
    std::string last;  // Collective::name(); empty before the first
  };
  Calls calls() const;

  /// Sends `text` to rank `to` beside the collectives, whatever becomes of them: a rank that waits
  /// in vain asks so where the others are. Returns at once, from any thread; a note to a rank that
  /// does not take it is lost, as is what is longer than kLongestNote. A backend may have none.
  virtual void send_note(int to, const std::string& text);
  /// The notes that have come since the last call, those of one rank in their order. From any
  /// thread.
  virtual std::vector<Note> take_notes();
  static constexpr std::size_t kLongestNote = 2000;

  /// Ends the whole job, with exit code `code` of 1 to 255 (another becomes 70). To be called by a
  /// rank that cannot go on, after it has said why.
  [[noreturn]] virtual void abort(int code) = 0;

 protected:
  Comm(int rank, int size) : rank_(rank), size_(size) {}

  /// Queues the collective and returns at once.
  virtual Work start(Collective collective) = 0;

 private:
  // A collective without its tensors, which must not live longer for a message's sake.
  struct CallShape {
    Collective::Kind kind = Collective::Kind::kBarrier;
    ReduceOp op = ReduceOp::kSum;
    int root = 0;
    std::int64_t numel = 0;
    DType dtype = DType::kF32;
  };

  void check(const Collective& collective) const;
  Work count_and_start(const Collective& collective);

  const int rank_, size_;
  mutable std::mutex calls_mutex_;
  std::uint64_t calls_ = 0;
  CallShape last_call_;
};

}  // namespace onpa::dist
