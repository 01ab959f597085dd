// Data-parallel training: every rank has the whole model and a part of the batch; gradients are
// summed over the ranks while backward goes on. Source: arXiv:2006.15704.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dist/comm.h"
#include "tensor/flat_params.h"

namespace onpa::dist {

/// How much gradient one all_reduce takes. Small ones cost latency each. A large one starts late;
/// the last, which nothing is left to hide, has to be no more than the others.
struct BucketSizes {
  std::int64_t first_bytes = std::int64_t{1} << 20;  // so that the link has work early
  std::int64_t bytes = std::int64_t{25} << 20;
};

/// Elements [begin, end) of the flat gradient, those of slots [first_slot, last_slot].
struct Bucket {
  std::int64_t begin = 0, end = 0;
  std::size_t first_slot = 0, last_slot = 0;
};

/// Slices of the flat gradient, last layers first, as backward makes them in that order; each of
/// whole slots, and of at least the bytes asked for but for the last. They cover all of it.
std::vector<Bucket> cut_buckets(const FlatParams& params, const BucketSizes& sizes);

/// The gradients of one model on all ranks. A step is
///
///   params.clear_grad();
///   for all micro-batches but the last: onpa::backward(loss)
///   ddp.backward(loss);               // of the last; starts to reduce what is complete
///   ddp.wait();                       // instead of params.finish_grad()
///   optimizer.step(lr, 1 / size);     // grad() is the sum over the ranks
///
/// All ranks reduce the buckets in one order, so that those whose gradients come in another order,
/// or not at all, stay together: in the first step last layers first, then in the order in which
/// they were complete on rank 0. So a bucket that holds a parameter that the loss does not use
/// comes last and holds up no other.
///
/// On the GPU the steps above can be a DeviceStep, whose graph then holds the all_reduces beside
/// the kernels of backward.
class Ddp {
 public:
  /// All ranks need the same slots. Both arguments must outlive this; on the GPU, to be made after
  /// params.move_to(). Throws Error (kInternal) unless the sizes are positive.
  Ddp(Comm& comm, FlatParams& params, const BucketSizes& sizes = {});

  /// Gives all ranks the parameters of rank 0, and its values of `buffers`.
  void broadcast(const std::vector<Tensor>& buffers = {});

  /// begin(), and backward with a call of mark_ready for each gradient that is complete.
  void backward(const Tensor& loss, double seed = 1.0);

  /// For gradients that are not autograd's: from begin() to wait(), mark_ready(slot) says that
  /// nothing more comes to the gradient of params.slots()[slot]. Throws Error (kInternal) out of
  /// this order, or for a slot marked twice.
  void begin();
  void mark_ready(std::size_t slot);
  /// Whether this is between begin() and wait().
  bool active() const { return active_; }

  /// Returns when params.grad() holds the sum over the ranks of all gradients, on the GPU for what
  /// this thread queues from then on. A slot that was not
  /// marked counts with what has been added to it since clear_grad(), or 0. Throws Error as
  /// Work::wait().
  void wait();

  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  void start_complete();
  void learn_order();

  Comm& comm_;
  FlatParams& params_;
  std::vector<Bucket> buckets_;
  std::vector<std::size_t> bucket_of_;  // by slot that learns
  std::vector<std::size_t> order_;      // in which buckets are started
  std::vector<std::size_t> completed_;  // buckets of the first step, as they were complete
  bool learned_ = false;                // order_ is that of rank 0's first step
  bool active_ = false;                 // between begin() and wait()
  std::vector<bool> ready_;             // by slot
  std::vector<std::size_t> missing_;    // by bucket, slots that are not ready
  std::vector<Work> works_;             // of the buckets that were started
};

}  // namespace onpa::dist
