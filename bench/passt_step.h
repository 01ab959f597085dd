// A training step of PaSST on 10 s of audio with patchout, for benchmarks of ranks.
#pragma once

#include <cstdint>

#include "kernels/philox.h"
#include "nn/passt.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"

namespace onpa::bench {

/// Standard normal values, the same in every run.
inline Tensor random_tensor(const Shape& shape) {
  Philox rng({.seed = 1, .stream = kStreamTest});
  Tensor out = Tensor::empty(shape);
  for (float& value : out.span<float>()) value = static_cast<float>(rng.normal());
  return out;
}

/// passt-s with 527 outputs and the unused head of published files.
struct PasstStep {
  PasstStep(const nn::PasstConfig& config, std::int64_t batch)
      : model(config),
        params((model.initialize(1), model.parameter_slots())),
        mel(random_tensor({batch, 128, 998})),
        target(random_tensor({batch, 527})) {
    model.train();
  }

  Tensor loss() {
    params.clear_grad();
    const nn::Patchout patchout{.time = 40, .freq = 4};
    return ops::loss(model.forward(mel, patchout, 1, 0).logits, target, kernels::LossKind::kMse);
  }

  nn::Passt model;
  FlatParams params;
  const Tensor mel, target;
};

}  // namespace onpa::bench
