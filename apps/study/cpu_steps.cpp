#include "apps/study/cpu_steps.h"

#include <cmath>

#include "tensor/autograd.h"

namespace onpa::apps {

void CpuSteps::start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) {
  parts_.task.start_epoch(static_cast<std::uint64_t>(epoch), cursor);
  step_ = step;
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
    if (!parts_.task.next_batch(draw, batch)) break;
    const Tensor loss = parts_.task.loss(batch.inputs, draw);
    const double value = loss.item();
    out.loss += value;
    if (std::isfinite(value)) backward(loss);
    out.cursor = batch.cursor;
    out.samples += batch.samples;
  }
  if (passes == 0) return {};
  out.grad_norm = std::nan("");
  if (std::isfinite(out.loss)) {
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
