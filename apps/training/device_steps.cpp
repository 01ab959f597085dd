#include "apps/training/device_steps.h"

#include <array>
#include <cmath>
#include <exception>
#include <utility>

#include "apps/support/stop_signal.h"
#include "apps/training/optimizer_parts.h"
#include "kernels/error.h"
#include "kernels/step_state.h"
#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/memory_plan.h"
#include "tensor/op_scope.h"

namespace onpa::apps {
namespace {

Tensor on_gpu(const onpa::Shape& shape, DType dtype) {
  return Tensor::empty(shape, dtype, DeviceKind::kCuda);
}

// Room for a batch's inputs, or for those of its first `samples` samples. Inputs have a row for
// each sample, or two where its mixup partner comes along.
std::vector<Tensor> device_copies(const HostBatch& batch, std::int64_t samples) {
  std::vector<Tensor> out;
  for (const Tensor& input : batch.inputs) {
    onpa::Shape shape = input.shape();
    for (const std::int64_t each : {1, 2}) {
      const bool per_sample = shape.rank() > 0 && input.size(0) == each * batch.samples;
      if (per_sample) shape = shape.with(0, each * samples);
    }
    out.push_back(on_gpu(shape, input.dtype()));
  }
  return out;
}

}  // namespace

struct DeviceSteps::Shape {
  std::vector<Tensor> inputs;
  std::map<std::pair<bool, bool>, DeviceStep> passes;  // by Pass
};

double DeviceSteps::Loaded::weight() const {
  return static_cast<double>(batch.samples) / static_cast<double>(batch.total);
}

DeviceSteps::DeviceSteps(StepParts parts, std::unique_ptr<dist::Comm> gpus)
    : parts_(std::move(parts)),
      gpus_(std::move(gpus)),
      state_(on_gpu({static_cast<std::int64_t>(sizeof(kernels::StepState)) / 4}, DType::kI32)),
      loss_(on_gpu({1}, DType::kF32)),
      squares_(on_gpu({1}, DType::kF64)) {
  parts_.task.module().set_step_state(reinterpret_cast<const kernels::StepState*>(state_.bytes()));
  if (gpus_) ddp_.emplace(*gpus_, parts_.params);
}

DeviceSteps::~DeviceSteps() {
  // What follows waits for the GPU, and that for ranks that may never come.
  if (std::uncaught_exceptions() > 0) gpus_.reset();
  parts_.task.module().set_step_state(nullptr);
}

DeviceSteps::Shape& DeviceSteps::shape_of(const HostBatch& batch) {
  // The first three are in a captured pass as numbers.
  std::vector<std::int64_t> key = {batch.first, batch.samples, batch.total};
  for (const Tensor& input : batch.inputs) {
    const auto extents = input.shape().extents();
    key.insert(key.end(), extents.begin(), extents.end());
  }
  if (const auto found = shapes_.find(key); found != shapes_.end()) return *found->second;
  make_room(batch);
  auto made = std::make_unique<Shape>();
  made->inputs = device_copies(batch, batch.samples);
  return *(shapes_[key] = std::move(made));
}

// The body of a pass.
void DeviceSteps::run_pass(const Loaded& loaded, Pass pass) {
  if (loaded.batch.samples == 0) {  // other ranks have some
    if (pass.first) parts_.params.grad().zero();
    loss_.zero();
    if (pass.last) reduce();
    return;
  }
  if (pass.first) parts_.params.clear_grad();
  Tensor loss;
  {
    const PhaseScope scope("forward");
    const MemoryCategory category("activations");
    loss = parts_.task.loss(loaded.shape->inputs, 0, loaded.batch.first);
  }
  const PhaseScope scope("backward");
  const MemoryCategory category("backward");
  // The mean over the whole batch is the sum over the ranks of means so weighted.
  if (pass.last && ddp_) {
    ddp_->backward(loss, loaded.weight());
  } else {
    backward(loss, loaded.weight());
  }
  loss_.copy_from(loss.detach());
  if (pass.last && ddp_) ddp_->wait();
}

// Sums what backward has left, where nothing is computed meanwhile.
void DeviceSteps::reduce() {
  const PhaseScope scope("all_reduce");
  ddp_->begin();
  ddp_->wait();
}

// Sees to it that a batch of a new shape can be allocated. All shapes work in one arena; one that
// needs more takes the place of those before, which are captured anew when they come back.
void DeviceSteps::make_room(const HostBatch& batch) {
  const std::size_t needs = needed_bytes(batch, batch.samples);
  if (needs <= arena_bytes_) return;
  shapes_.clear();
  uploader_.emplace();  // and with it the staging memory of those shapes
  arena_ = std::make_shared<SharedArena>();
  release_cached_memory(DeviceKind::kCuda);
  const std::size_t free = cuda_device().free_bytes;
  if (needs > free) {
    const int ranks = gpus_ ? gpus_->size() : 1;
    const std::int64_t largest = ranks * largest_batch(batch, free);
    fail(ExitCode::kOutOfMemory, "out of memory on the GPU: a batch of ", batch.samples, " needs ",
         needs >> 20, " MiB, ", free >> 20, " MiB are free; ",
         largest > 0 ? detail::concat("train.batch_size=", largest, " fits")
                     : "not even a batch of 1 fits");
  }
  arena_bytes_ = needs;
}

// Of forward and backward over the first `samples` samples of a batch, with its inputs and the
// uploader's two copies of each.
std::size_t DeviceSteps::needed_bytes(const HostBatch& batch, std::int64_t samples) {
  const auto rounding = [](std::size_t bytes) {  // at most, of an allocation
    return std::min(bytes / 8 + 64, std::size_t{2} << 20);
  };
  std::size_t rounded = 0;
  const MemoryPlan plan = MemoryPlan::make([&] {
    const auto inputs = device_copies(batch, samples);
    const auto one = device_copies(batch, samples), other = device_copies(batch, samples);
    for (const Tensor& input : inputs) rounded += 3 * rounding(input.byte_count());
    if (samples == 0) return;
    parts_.params.clear_grad();
    backward(parts_.task.loss(inputs, 0, batch.first));
  });
  return plan.bytes() + rounding(plan.bytes()) + rounded;
}

// By bisection over plans of smaller batches; 0 if none fits.
std::int64_t DeviceSteps::largest_batch(const HostBatch& batch, std::size_t free_bytes) {
  std::int64_t fits = 0, too_many = batch.samples;
  while (too_many - fits > 1) {
    const std::int64_t count = (fits + too_many) / 2;
    (needed_bytes(batch, count) <= free_bytes ? fits : too_many) = count;
  }
  return fits;
}

// The next batch, its upload queued. The copy into the inputs comes after the passes queued so far,
// which may still have to read what they hold.
std::optional<DeviceSteps::Loaded> DeviceSteps::load(std::uint64_t draw) {
  const PhaseScope scope("load");
  HostBatch batch;
  if (!parts_.task.next_batch(draw, batch)) return {};
  Shape& shape = shape_of(batch);
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
    uploader_->upload(shape.inputs[i], batch.inputs[i]);
  }
  batch.inputs.clear();
  return Loaded{.shape = &shape, .batch = std::move(batch)};
}

std::optional<DeviceSteps::Loaded> DeviceSteps::first_batch(std::uint64_t draw) {
  if (!ahead_) return load(draw);
  const Ahead ahead = *std::exchange(ahead_, std::nullopt);
  if (ahead.error) std::rethrow_exception(ahead.error);
  return ahead.batch;
}

// An error waits until the steps before are counted.
void DeviceSteps::load_ahead(std::uint64_t draw) {
  const double before = parts_.task.wait_seconds();
  ahead_.emplace();
  try {
    ahead_->batch = load(draw);
  } catch (...) {
    ahead_->error = std::current_exception();
  }
  if (!norms_.ready()) hidden_wait_seconds_ += parts_.task.wait_seconds() - before;
}

void DeviceSteps::queue_pass(const Loaded& loaded, std::uint64_t draw, Pass pass) {
  const kernels::StepState state = {.step = draw};
  uploader_->upload(state_, &state, sizeof state);
  // With one rank the last pass is like the others.
  const std::pair<bool, bool> kind = {pass.first, pass.last && ddp_};
  auto& passes = loaded.shape->passes;
  auto found = passes.find(kind);
  if (found == passes.end()) {
    const auto body = [this, loaded, pass] { run_pass(loaded, pass); };
    found = passes.try_emplace(kind, body, arena_).first;
  }
  found->second.run();
  losses_.fetch(loss_);
}

// The update from the gradients of `passes` batches.
void DeviceSteps::queue_update(double lr, std::int64_t passes) {
  // The mean over the passes is part of the captured update.
  if (!update_ || update_passes_ != passes) {
    update_passes_ = passes;
    update_ = std::make_unique<DeviceStep>([this, passes] {
      const PhaseScope scope("update");
      const MemoryCategory category("optimizer");
      if (!ddp_) parts_.params.finish_grad();
      parts_.optimizer.queue_step(state_, squares_, 1.0f / static_cast<float>(passes));
      if (gpus_) gather_parameters(*gpus_, parts_.optimizer, parts_.params);
    });
  }
  const kernels::StepState state = {
      .optimizer_step = static_cast<std::uint64_t>(parts_.optimizer.step_count() + 1),
      .lr = static_cast<float>(lr),
      .clip_norm = parts_.optimizer.clip_norm()};
  uploader_->upload(state_, &state, sizeof state);
  update_->run();
  norms_.fetch(squares_);
}

void DeviceSteps::wait(const std::vector<double>& weights, StepResult& out) {
  parts_.phase("wait for the GPU");
  const auto passes = static_cast<double>(weights.size());
  for (const double weight : weights) {
    float loss = 0;
    losses_.take(&loss, sizeof loss);
    out.loss += weight * static_cast<double>(loss);
  }
  out.loss /= passes;
  double squares = 0;
  norms_.take(&squares, sizeof squares);
  out.grad_norm = std::sqrt(squares) / passes;
  out.updated = std::isfinite(*out.grad_norm);
  if (out.updated) parts_.optimizer.count_step();
  if (ddp_) agree(out);
}

// On the loss of the whole batch, and on whether to stop. The gradient and what follows from it are
// the same on all ranks.
void DeviceSteps::agree(StepResult& out) {
  parts_.phase("all_reduce");
  std::array<double, 2> sums = {out.loss, stop_requested() != 0 ? 1.0 : 0.0};
  parts_.ranks->all_sum(sums);
  out.loss = sums[0];
  out.stop = sums[1] > 0;
}

void DeviceSteps::start_epoch(std::int64_t epoch, std::int64_t cursor, std::int64_t step) {
  parts_.task.start_epoch(static_cast<std::uint64_t>(epoch), cursor,
                          static_cast<std::uint64_t>(step * parts_.config.train.accumulate));
  step_ = step;
  ahead_.reset();
}

std::vector<StepResult> DeviceSteps::take(std::int64_t limit) {
  if (limit <= 0) return {};
  const std::int64_t accumulate = parts_.config.train.accumulate;
  const auto draw = static_cast<std::uint64_t>(step_ * accumulate);
  StepResult out;
  std::vector<double> weights;  // of the passes
  for (std::optional<Loaded> loaded = first_batch(draw); loaded;) {
    const std::uint64_t pass_draw = draw + weights.size();
    const bool first = weights.empty();
    weights.push_back(loaded->weight());
    const bool last = std::ssize(weights) == accumulate;
    queue_pass(*loaded, pass_draw, {first, last});
    out.samples += loaded->batch.total;
    out.cursor = loaded->batch.cursor;
    if (last) break;
    loaded = load(pass_draw + 1);
  }
  if (weights.empty()) return {};
  const std::int64_t passes = std::ssize(weights);
  if (ddp_ && passes < accumulate) {  // the epoch ended before the last pass
    if (!reduce_) reduce_ = std::make_unique<DeviceStep>([this] { reduce(); });
    reduce_->run();
  }
  queue_update(parts_.rate(step_), passes);
  ++step_;
  if (limit > 1) load_ahead(static_cast<std::uint64_t>(step_ * accumulate));
  wait(weights, out);
  return {out};
}

double DeviceSteps::wait_seconds() const {
  return parts_.task.wait_seconds() - hidden_wait_seconds_;
}

}  // namespace onpa::apps
