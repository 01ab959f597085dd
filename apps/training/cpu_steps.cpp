#include "apps/training/cpu_steps.h"

#include <cmath>
#include <utility>

#include "apps/support/stop_signal.h"
#include "apps/training/optimizer_parts.h"
#include "tensor/autograd.h"
#include "tensor/io/fault.h"
#include "tensor/op_scope.h"

namespace onpa::apps {
namespace {

// For tests: ONPA_FAULT asks for a value to be spoiled.
double spoiled(io::FaultSite site, double value) {
  const io::Spoil spoil = io::fault_site(site);
  if (spoil == io::Spoil::kNan) return std::nan("");
  return spoil == io::Spoil::kNudge ? value * 1.001 : value;
}

}  // namespace

CpuSteps::CpuSteps(StepParts parts) : parts_(std::move(parts)) {
  if (parts_.several_ranks()) ddp_.emplace(parts_.ranks->comm(), parts_.params);
}

void CpuSteps::start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) {
  parts_.task.start_epoch(static_cast<std::uint64_t>(epoch), cursor,
                          static_cast<std::uint64_t>(step * parts_.config.train.accumulate));
  step_ = step;
}

bool CpuSteps::load(std::uint64_t draw, HostBatch& batch) {
  parts_.phase("load");
  const PhaseScope scope("load");
  return parts_.task.next_batch(draw, batch);
}

Tensor CpuSteps::forward(const HostBatch& batch, std::uint64_t draw) {
  parts_.phase("forward");
  const PhaseScope scope("forward");
  return parts_.task.loss(batch.inputs, draw, batch.first);
}

// Adds a batch's gradients; with `last` of several ranks, their sum over the ranks is under way
// then.
void CpuSteps::learn(const HostBatch& batch, std::uint64_t draw, bool last, StepResult& out) {
  // The mean over the whole batch is the sum over the ranks of means so weighted.
  const double weight = static_cast<double>(batch.samples) / static_cast<double>(batch.total);
  Tensor loss;
  double value = 0;
  if (batch.samples > 0) {
    loss = forward(batch, draw);
    value = spoiled(io::FaultSite::kLoss, loss.item());
    out.loss += weight * value;
  }
  out.cursor = batch.cursor;
  out.samples += batch.total;
  if (last && ddp_) start_sums(out);
  if (batch.samples == 0 || !std::isfinite(value)) return;
  parts_.phase("backward");
  const PhaseScope scope("backward");
  const double seed = spoiled(io::FaultSite::kGradient, weight);
  reducing_ ? ddp_->backward(loss, seed) : backward(loss, seed);
}

// The sums over the ranks begin: of the loss at once, of gradients when they are complete.
void CpuSteps::start_sums(const StepResult& mine) {
  sums_ = Tensor::from<double>({2}, {mine.loss, stop_requested() != 0 ? 1.0 : 0.0});
  sums_work_ = parts_.ranks->comm().start_all_reduce(sums_);
  reducing_ = true;
}

// Gradients whose sums backward has not started yet, as this rank had nothing to learn from, are
// reduced here.
void CpuSteps::finish_sums(StepResult& out) {
  parts_.phase("all_reduce");
  const PhaseScope scope("all_reduce");
  if (!ddp_->active()) ddp_->begin();
  ddp_->wait();
  sums_work_.wait();
  out.loss = sums_.data<double>()[0];
  out.stop = sums_.data<double>()[1] > 0;
  reducing_ = false;
}

std::vector<StepResult> CpuSteps::take(std::int64_t limit) {
  if (limit <= 0) return {};
  const std::int64_t accumulate = parts_.config.train.accumulate;
  parts_.params.clear_grad();
  StepResult out;
  std::int64_t passes = 0;
  for (; passes < accumulate; ++passes) {
    const auto draw = static_cast<std::uint64_t>(step_ * accumulate + passes);
    HostBatch batch;
    if (!load(draw, batch)) break;
    learn(batch, draw, passes + 1 == accumulate, out);
  }
  if (passes == 0) return {};
  if (ddp_) {
    if (!reducing_) start_sums(out);  // the epoch ended before the last pass
    finish_sums(out);
  }
  out.grad_norm = std::nan("");
  if (std::isfinite(out.loss)) {
    parts_.phase("update");
    const PhaseScope scope("update");
    if (!ddp_) parts_.params.finish_grad();
    out.grad_norm = parts_.optimizer.step(static_cast<float>(parts_.rate(step_)),
                                          1.0f / static_cast<float>(passes));
    float& weight = parts_.params.data().data<float>()[0];
    weight = static_cast<float>(spoiled(io::FaultSite::kWeights, weight));
  }
  if (ddp_ && std::isfinite(*out.grad_norm)) {
    parts_.phase("all_gather");
    const PhaseScope scope("all_gather");
    gather_parameters(parts_.ranks->comm(), parts_.optimizer, parts_.params);
  }
  out.updated = std::isfinite(*out.grad_norm);
  out.loss /= static_cast<double>(passes);
  ++step_;
  return {out};
}

}  // namespace onpa::apps
