#include "apps/training/dense_steps.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/error.h"

namespace onpa::apps {
namespace {

// While the host waits for one graph, the GPU has the next ones.
constexpr std::size_t kGraphsQueued = 4;

nn::DenseFusedConfig fused_config(const Config& config) {
  return {.optimizer = config.optimizer(),
          .loss = config.loss(),
          .huber_delta = static_cast<float>(config.train.huber_delta),
          .batch_size = config.train.batch_size,
          .seed = static_cast<std::uint64_t>(config.train.seed)};
}

}  // namespace

std::string DenseSteps::problem(const Config& config, const DenseRows& rows,
                                std::size_t free_bytes) {
  if (config.train.precision == "bf16") return "train.precision is bf16";
  if (config.train.accumulate > 1) {
    return detail::concat("train.accumulate is ", config.train.accumulate);
  }
  if (config.average.kind == "ema") return "average.kind is ema, an average after every step";
  // A quarter is left to evaluations.
  const std::size_t bytes = rows.x.byte_count() + rows.y.byte_count();
  if (bytes > free_bytes / 4 * 3) {
    return detail::concat("the train split takes ", bytes >> 20, " MiB, ", free_bytes >> 20,
                          " MiB are free");
  }
  return nn::DenseFused::problem(rows.model, fused_config(config));
}

DenseSteps::DenseSteps(StepParts parts, const DenseRows& rows)
    : parts_(std::move(parts)),
      rows_(rows.x.size(0)),
      fused_(rows.model, fused_config(parts_.config), parts_.params, parts_.optimizer, rows.x,
             rows.y) {}

void DenseSteps::start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) {
  returned_ = queued_ = {.step = step, .cursor = cursor};
  // Behind the last row there is nothing to go to: a run can be stopped between an epoch's last
  // step and its end.
  if (cursor == rows_) return;
  fused_.seek(static_cast<std::uint64_t>(epoch), cursor, static_cast<std::uint64_t>(step));
}

std::int64_t DenseSteps::samples_at(std::int64_t cursor) const {
  return std::min(parts_.config.train.batch_size, rows_ - cursor);
}

// One graph of steps, none of them after `last_step`; false if there is none to take.
bool DenseSteps::queue_graph(std::int64_t last_step) {
  const TrainSettings& train = parts_.config.train;
  const std::int64_t in_epoch = (rows_ - queued_.cursor + train.batch_size - 1) / train.batch_size;
  const std::int64_t to_line = train.log_steps - queued_.step % train.log_steps;
  const std::int64_t most =
      std::min({last_step - queued_.step, in_epoch, to_line, fused_.steps_per_graph()});
  if (most <= 0) return false;
  // Graphs of few sizes, so that each is captured once and then replayed.
  const auto count = std::bit_floor(static_cast<std::uint64_t>(most));
  std::vector<float> rates;
  for (std::uint64_t i = 0; i < count; ++i) {
    rates.push_back(static_cast<float>(parts_.rate(queued_.step++)));
    queued_.cursor += samples_at(queued_.cursor);
  }
  fused_.queue(rates);
  return true;
}

std::vector<StepResult> DenseSteps::take(std::int64_t limit) {
  // No further than the epoch, which also keeps the sum from overflowing.
  const std::int64_t last_step = returned_.step + std::min(limit, rows_);
  const bool ahead = parts_.params.data().device() == DeviceKind::kCuda;
  while (fused_.pending() < (ahead ? kGraphsQueued : 1) && queue_graph(last_step)) {
  }
  std::vector<StepResult> out;
  if (fused_.pending() == 0) return out;
  const nn::DenseFused::Result done = fused_.take();
  for (std::size_t i = 0; i < done.losses.size(); ++i) {
    const float loss = done.losses[i];
    const std::int64_t samples = samples_at(returned_.cursor);
    returned_.cursor += samples;
    ++returned_.step;
    out.push_back({.loss = loss,
                   .grad_norm = i < done.grad_norms.size()
                                    ? std::optional<double>(done.grad_norms[i])
                                    : std::nullopt,
                   .updated = std::isfinite(loss),
                   .samples = samples,
                   .cursor = returned_.cursor});
  }
  return out;
}

}  // namespace onpa::apps
