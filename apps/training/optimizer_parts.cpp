#include "apps/training/optimizer_parts.h"

namespace onpa::apps {
namespace {

// A buffer of the parameters that learn, cut as OptimizerShard says: a part for each rank, and the
// rest.
struct Cut {
  Cut(const nn::OptimizerShard& shard, std::int64_t numel)
      : part(shard.part_numel(numel)),
        parts(shard.count * part),
        numel(numel),
        begin(shard.index * part) {}

  Tensor own(const Tensor& whole) const { return whole.slice(begin, begin + part); }
  Tensor all(const Tensor& whole) const { return whole.slice(0, parts); }

  std::int64_t part, parts, numel, begin;
};

}  // namespace

nn::OptimizerShard optimizer_shard(bool in_parts, const Ranks& ranks) {
  return in_parts ? nn::OptimizerShard{ranks.rank(), ranks.size()} : nn::OptimizerShard{};
}

Moments whole_moments(const nn::Optimizer& optimizer, const FlatParams& params) {
  if (optimizer.shard().count == 1) return optimizer.state();
  Moments out;
  for (const auto& [name, buffer] : optimizer.state()) {
    out.emplace_back(name, Tensor::zeros(params.grad().shape()));
  }
  return out;
}

void share_moments(const Ranks& ranks, const nn::Optimizer& optimizer, const FlatParams& params,
                   const Moments& whole) {
  if (!ranks.several()) return;
  const Cut cut(optimizer.shard(), params.learning_numel());
  const Moments state = optimizer.state();
  for (std::size_t i = 0; i < state.size(); ++i) {
    const Tensor& mine = state[i].second;
    if (optimizer.shard().count == 1) {
      ranks.comm().broadcast(mine);
      continue;
    }
    const Tensor all = ranks.first() ? whole[i].second : Tensor::empty(params.grad().shape());
    ranks.comm().broadcast(all);
    mine.slice(0, cut.part).copy_from(cut.own(all));
    mine.slice(cut.part, mine.numel()).copy_from(all.slice(cut.parts, cut.numel));
  }
}

Moments gather_moments(const Ranks& ranks, const nn::Optimizer& optimizer,
                       const FlatParams& params) {
  if (optimizer.shard().count == 1) return ranks.first() ? optimizer.state() : Moments();
  const Cut cut(optimizer.shard(), params.learning_numel());
  Moments out;
  for (const auto& [name, buffer] : optimizer.state()) {
    const Tensor mine = buffer.to(DeviceKind::kCpu);
    const Tensor whole = Tensor::empty(params.grad().shape());
    if (cut.part > 0) ranks.comm().all_gather(mine.slice(0, cut.part), cut.all(whole));
    whole.slice(cut.parts, cut.numel).copy_from(mine.slice(cut.part, mine.numel()));
    if (ranks.first()) out.emplace_back(name, whole);
  }
  return out;
}

void gather_parameters(dist::Comm& comm, const nn::Optimizer& optimizer, const FlatParams& params) {
  const Cut cut(optimizer.shard(), params.learning_numel());
  if (optimizer.shard().count == 1 || cut.part == 0) return;
  const auto gather = [&](const Tensor& buffer) {
    comm.all_gather(cut.own(buffer), cut.all(buffer));
  };
  gather(params.data());
  // In bf16 the optimizer has rounded its part.
  if (params.compute().dtype() != params.data().dtype()) gather(params.compute());
}

}  // namespace onpa::apps
