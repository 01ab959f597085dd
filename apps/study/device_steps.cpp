#include "apps/study/device_steps.h"

#include <cmath>
#include <utility>

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
  std::unique_ptr<DeviceStep> first, more;
};

DeviceSteps::DeviceSteps(StepParts parts)
    : parts_(std::move(parts)),
      state_(on_gpu({static_cast<std::int64_t>(sizeof(kernels::StepState)) / 4}, DType::kI32)),
      loss_(on_gpu({1}, DType::kF32)),
      squares_(on_gpu({1}, DType::kF64)) {
  parts_.task.module().set_step_state(reinterpret_cast<const kernels::StepState*>(state_.bytes()));
}

DeviceSteps::~DeviceSteps() {
  parts_.task.module().set_step_state(nullptr);
}

DeviceSteps::Shape& DeviceSteps::shape_of(const HostBatch& batch) {
  std::vector<std::int64_t> key = {batch.first};  // which a captured pass holds too
  for (const Tensor& input : batch.inputs) {
    const auto extents = input.shape().extents();
    key.insert(key.end(), extents.begin(), extents.end());
  }
  if (const auto found = shapes_.find(key); found != shapes_.end()) return *found->second;
  make_room(batch);
  auto made = std::make_unique<Shape>();
  made->inputs = device_copies(batch, batch.samples);
  const auto pass = [this, inputs = made->inputs, first_row = batch.first](bool first) {
    if (first) parts_.params.clear_grad();
    Tensor loss;
    {
      const PhaseScope scope("forward");
      const MemoryCategory category("activations");
      loss = parts_.task.loss(inputs, 0, first_row);
    }
    const PhaseScope scope("backward");
    const MemoryCategory category("backward");
    backward(loss);
    loss_.copy_from(loss.detach());
  };
  made->first = std::make_unique<DeviceStep>([pass] { pass(true); }, arena_);
  made->more = std::make_unique<DeviceStep>([pass] { pass(false); }, arena_);
  return *(shapes_[key] = std::move(made));
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
    const std::int64_t largest = largest_batch(batch, free);
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
  return Loaded{.shape = &shape, .samples = batch.samples, .cursor = batch.cursor};
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

void DeviceSteps::queue_pass(Shape& shape, std::uint64_t draw, bool first) {
  const kernels::StepState state = {.step = draw};
  uploader_->upload(state_, &state, sizeof state);
  (first ? shape.first : shape.more)->run();
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
      parts_.params.finish_grad();
      parts_.optimizer.queue_step(state_, squares_, 1.0f / static_cast<float>(passes));
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

void DeviceSteps::wait(std::int64_t passes, StepResult& out) {
  for (std::int64_t i = 0; i < passes; ++i) {
    float loss = 0;
    losses_.take(&loss, sizeof loss);
    out.loss += loss;
  }
  out.loss /= static_cast<double>(passes);
  double squares = 0;
  norms_.take(&squares, sizeof squares);
  out.grad_norm = std::sqrt(squares) / static_cast<double>(passes);
  out.updated = std::isfinite(*out.grad_norm);
  if (out.updated) parts_.optimizer.count_step();
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
  std::int64_t passes = 0;
  for (std::optional<Loaded> batch = first_batch(draw); batch;) {
    const std::uint64_t pass_draw = draw + static_cast<std::uint64_t>(passes);
    queue_pass(*batch->shape, pass_draw, passes == 0);
    out.samples += batch->samples;
    out.cursor = batch->cursor;
    if (++passes == accumulate) break;
    batch = load(pass_draw + 1);
  }
  if (passes == 0) return {};
  queue_update(parts_.rate(step_), passes);
  ++step_;
  if (limit > 1) load_ahead(static_cast<std::uint64_t>(step_ * accumulate));
  wait(passes, out);
  return {out};
}

double DeviceSteps::wait_seconds() const {
  return parts_.task.wait_seconds() - hidden_wait_seconds_;
}

}  // namespace onpa::apps
