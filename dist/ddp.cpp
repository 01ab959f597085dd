#include "dist/ddp.h"

#include <unordered_map>

#include "tensor/autograd.h"
#include "tensor/memory_plan.h"

namespace onpa::dist {

std::vector<Bucket> cut_buckets(const FlatParams& params, const BucketSizes& sizes) {
  ONPA_CHECK(sizes.first_bytes > 0 && sizes.bytes > 0, "buckets of ", sizes.first_bytes, " and ",
             sizes.bytes, " bytes");
  const auto width = static_cast<std::int64_t>(size_of(params.grad().dtype()));
  std::vector<Bucket> buckets;
  std::int64_t end = params.learning_numel();
  std::size_t last = params.learning_slots().size();
  for (std::size_t slot = last; slot-- > 0;) {
    const std::int64_t begin = params.slots()[slot].offset;
    const std::int64_t enough = buckets.empty() ? sizes.first_bytes : sizes.bytes;
    if ((end - begin) * width < enough && slot > 0) continue;
    buckets.push_back({begin, end, slot, last - 1});
    end = begin;
    last = slot;
  }
  return buckets;
}

Ddp::Ddp(Comm& comm, FlatParams& params, const BucketSizes& sizes)
    : comm_(comm),
      params_(params),
      buckets_(cut_buckets(params, sizes)),
      bucket_of_(params.learning_slots().size()) {
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    order_.push_back(b);
    for (std::size_t s = buckets_[b].first_slot; s <= buckets_[b].last_slot; ++s) bucket_of_[s] = b;
  }
}

void Ddp::broadcast(const std::vector<Tensor>& buffers) {
  std::vector<Work> works;
  comm_.begin_group();
  works.push_back(comm_.start_broadcast(params_.data()));
  for (const Tensor& buffer : buffers) works.push_back(comm_.start_broadcast(buffer));
  comm_.end_group();
  for (Work& work : works) work.wait();
  params_.refresh_compute();
}

void Ddp::backward(const Tensor& loss, double seed) {
  begin();
  std::unordered_map<const onpa::detail::GradNode*, std::size_t> slots;
  for (std::size_t s = 0; s < ready_.size(); ++s) {
    slots[params_.parameter(s).node().get()] = s;
  }
  const LeafGradListener listener([&](const onpa::detail::GradNode* leaf) {
    if (const auto found = slots.find(leaf); found != slots.end()) mark_ready(found->second);
  });
  onpa::backward(loss, seed);
}

void Ddp::begin() {
  ONPA_CHECK(!active_, "ddp: begin() without wait() for the step before");
  active_ = true;
  ready_.assign(bucket_of_.size(), false);
  missing_.clear();
  for (const Bucket& bucket : buckets_) {
    missing_.push_back(bucket.last_slot - bucket.first_slot + 1);
  }
  works_.clear();
  completed_.clear();
}

void Ddp::mark_ready(std::size_t slot) {
  ONPA_CHECK(active_, "ddp: mark_ready(", slot, ") outside of begin() and wait()");
  ONPA_CHECK(slot < ready_.size(), "ddp: slot ", slot, " of ", ready_.size(), " that learn");
  ONPA_CHECK(!ready_[slot], "ddp: the gradient of ", params_.slots()[slot].name,
             " is complete twice");
  ready_[slot] = true;
  const std::size_t bucket = bucket_of_[slot];
  if (--missing_[bucket] == 0 && !learned_) completed_.push_back(bucket);
  start_complete();
}

// A bucket that is complete waits for those before it in the order.
void Ddp::start_complete() {
  std::size_t end = works_.size();
  while (end < buckets_.size() && missing_[order_[end]] == 0) ++end;
  const bool several = end > works_.size() + 1;
  if (several) comm_.begin_group();
  while (works_.size() < end) {
    const Bucket& bucket = buckets_[order_[works_.size()]];
    works_.push_back(comm_.start_all_reduce(params_.grad().slice(bucket.begin, bucket.end)));
  }
  if (several) comm_.end_group();
}

void Ddp::wait() {
  ONPA_CHECK(active_, "ddp: wait() without begin()");
  for (std::size_t slot = 0; slot < ready_.size(); ++slot) {
    if (ready_[slot]) continue;
    // From now on it holds what other ranks have added.
    const GradTarget target = grad_target(params_.parameter(slot));
    if (!target || target.mode == kernels::GradMode::kAssign) {
      params_.view(params_.grad(), params_.slots()[slot]).zero();
    }
    mark_ready(slot);
  }
  active_ = false;
  for (Work& work : works_) work.wait();
  if (!learned_ && !planning_memory()) learn_order();
}

void Ddp::learn_order() {
  const std::vector<std::int64_t> mine(completed_.begin(), completed_.end());
  const Tensor order = Tensor::from<std::int64_t>({static_cast<std::int64_t>(mine.size())}, mine);
  comm_.broadcast(order);
  const auto learned = order.span<std::int64_t>();
  order_.assign(learned.begin(), learned.end());
  learned_ = true;
}

}  // namespace onpa::dist
