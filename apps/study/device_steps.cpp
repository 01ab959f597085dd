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

std::vector<Tensor> device_copies(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> out;
  for (const Tensor& input : inputs) out.push_back(on_gpu(input.shape(), input.dtype()));
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
  std::vector<std::int64_t> key;
  for (const Tensor& input : batch.inputs) {
    const auto extents = input.shape().extents();
    key.insert(key.end(), extents.begin(), extents.end());
  }
  std::unique_ptr<Shape>& shape = shapes_[key];
  if (shape) return *shape;
  auto made = std::make_unique<Shape>();
  made->inputs = device_copies(batch.inputs);
  const auto pass = [this, inputs = made->inputs](bool first) {
    if (first) parts_.params.clear_grad();
    Tensor loss;
    {
      const PhaseScope scope("forward");
      const MemoryCategory category("activations");
      loss = parts_.task.loss(inputs, 0);
    }
    const PhaseScope scope("backward");
    const MemoryCategory category("backward");
    backward(loss);
    loss_.copy_from(loss.detach());
  };
  made->first = std::make_unique<DeviceStep>([pass] { pass(true); });
  made->more = std::make_unique<DeviceStep>([pass] { pass(false); });
  const CudaDevice device = cuda_device();
  if (made->first->plan().bytes() > device.free_bytes) {
    const std::int64_t largest = largest_batch(batch, device.free_bytes);
    fail(ExitCode::kOutOfMemory, "out of memory on the GPU: a batch of ", batch.samples, " needs ",
         made->first->plan().bytes() >> 20, " MiB, ", device.free_bytes >> 20, " MiB are free; ",
         largest > 0 ? detail::concat("train.batch_size=", largest, " fits")
                     : "not even a batch of 1 fits");
  }
  shape = std::move(made);
  return *shape;
}

// By bisection over plans of smaller batches; 0 if none fits.
std::int64_t DeviceSteps::largest_batch(const HostBatch& batch, std::size_t free_bytes) {
  std::int64_t fits = 0, too_many = batch.samples;
  while (too_many - fits > 1) {
    const std::int64_t count = (fits + too_many) / 2;
    std::vector<Tensor> inputs;
    for (const Tensor& input : batch.inputs) {
      const bool per_sample = input.shape().rank() > 0 && input.size(0) == batch.samples;
      inputs.push_back(
          on_gpu(per_sample ? input.shape().with(0, count) : input.shape(), input.dtype()));
    }
    const MemoryPlan plan = MemoryPlan::make([&] {
      parts_.params.clear_grad();
      backward(parts_.task.loss(inputs, 0));
    });
    (plan.bytes() <= free_bytes ? fits : too_many) = count;
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
    uploader_.upload(shape.inputs[i], batch.inputs[i]);
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
  uploader_.upload(state_, &state, sizeof state);
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
  uploader_.upload(state_, &state, sizeof state);
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
  parts_.task.start_epoch(static_cast<std::uint64_t>(epoch), cursor);
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
