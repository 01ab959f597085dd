#include "apps/training/memory_report.h"

#include <algorithm>
#include <cmath>

#include "audio/mel.h"
#include "kernels/error.h"
#include "nn/optim.h"
#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/flat_params.h"
#include "tensor/memory_plan.h"
#include "tensor/ops/loss.h"

namespace onpa::apps {
namespace {

// cuBLASLt's scratch memory, which is not a tensor.
constexpr std::size_t kBlasBytes = std::size_t{32} << 20;

}  // namespace

MemoryReport plan_passt_memory(const MemoryQuestion& q) {
  if (!has_cuda_backend()) require_cuda();
  audio::MelConfig mel_config;
  mel_config.mels = static_cast<int>(q.model.mels);
  const auto samples = static_cast<std::int64_t>(std::llround(q.seconds * mel_config.rate_hz));
  const std::int64_t frames = mel_config.frames(samples);
  if (frames < q.model.patch_t) {
    fail(ExitCode::kConfig, "a clip of ", q.seconds, " s has ", frames,
         " mel frames, want at least ", q.model.patch_t);
  }
  MemoryReport report;
  const std::int64_t grid_t = std::min(q.model.grid_t(frames), q.model.table_t);
  const auto kept = nn::draw_patchout(q.patchout, q.model.grid_f(), grid_t, 0, 0);
  report.tokens = static_cast<std::int64_t>(kept.size()) + 2;

  nn::Passt model(q.model);
  model.train();
  model.set_recompute(q.recompute);
  FlatParams params(model.parameter_slots());
  const MemoryPlan plan = MemoryPlan::make([&] {
    const auto on_gpu = [](const Shape& shape, DType dtype) {
      return Tensor::empty(shape, dtype, DeviceKind::kCuda);
    };
    Tensor wave, target;
    audio::MelInputs front_end;
    {
      const MemoryCategory category("inputs");
      wave = on_gpu({q.batch, samples}, DType::kF32);
      target = on_gpu({q.batch, q.model.outputs}, DType::kF32);
      front_end =
          audio::draw_mel_inputs(mel_config, {}, samples, 0, 0,
                                 std::vector<std::uint64_t>(static_cast<std::size_t>(q.batch)))
              .to(DeviceKind::kCuda);
    }
    {
      const MemoryCategory category("parameters and gradients");
      params.move_to(DeviceKind::kCuda, q.dtype);
    }
    const MemoryCategory moments_category("moments");
    const Tensor m = on_gpu(params.data().shape(), DType::kF32);
    const Tensor v = on_gpu(params.data().shape(), DType::kF32);
    Tensor loss;
    {
      const MemoryCategory category("activations");
      const Tensor mel = audio::log_mel_device(wave, mel_config, front_end, q.dtype);
      loss = ops::loss(model.forward(mel, q.patchout).logits, target, kernels::LossKind::kMse);
    }
    const MemoryCategory category("backward");
    backward(loss);
  });
  report.bytes = plan.peak_by_category();
  report.bytes.emplace_back("cuBLASLt", kBlasBytes);
  report.total_bytes = plan.bytes() + kBlasBytes;
  std::size_t named = 0;
  for (const auto& [name, bytes] : report.bytes) named += bytes;
  report.bytes.emplace_back("gaps between blocks", report.total_bytes - named);
  return report;
}

}  // namespace onpa::apps
