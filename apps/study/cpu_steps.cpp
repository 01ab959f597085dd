#include "apps/study/cpu_steps.h"

#include <cmath>

#include "tensor/autograd.h"
#include "tensor/op_scope.h"

namespace onpa::apps {

void CpuSteps::start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) {
  parts_.task.start_epoch(static_cast<std::uint64_t>(epoch), cursor,
                          static_cast<std::uint64_t>(step * parts_.config.train.accumulate));
  step_ = step;
}

bool CpuSteps::load(std::uint64_t draw, HostBatch& batch) {
  const PhaseScope scope("load");
  return parts_.task.next_batch(draw, batch);
}

Tensor CpuSteps::forward(const HostBatch& batch, std::uint64_t draw) {
  const PhaseScope scope("forward");
  return parts_.task.loss(batch.inputs, draw, batch.first);
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
    const Tensor loss = forward(batch, draw);
    const double value = loss.item();
    out.loss += value;
    if (std::isfinite(value)) {
      const PhaseScope scope("backward");
      backward(loss);
    }
    out.cursor = batch.cursor;
    out.samples += batch.samples;
  }
  if (passes == 0) return {};
  out.grad_norm = std::nan("");
  if (std::isfinite(out.loss)) {
    const PhaseScope scope("update");
    parts_.params.finish_grad();
    out.grad_norm = parts_.optimizer.step(static_cast<float>(parts_.rate(step_)),
                                          1.0f / static_cast<float>(passes));
  }
  out.updated = std::isfinite(*out.grad_norm);
  out.loss /= static_cast<double>(passes);
  ++step_;
  return {out};
}

}  // namespace onpa::apps
