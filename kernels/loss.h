// Losses, averaged over all cells (regression, BCE) or over rows (cross-entropy).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/dtype.h"

namespace onpa::kernels {

enum class LossKind : std::uint8_t { kMse, kL1, kHuber, kBceWithLogits, kCrossEntropy };

/// loss[0] = mean loss. kHuber has threshold `delta` and is 0.5 d^2 inside, delta (|d| - delta / 2)
/// outside (as torch.nn.HuberLoss). kCrossEntropy takes target probabilities per class.
template <class T>
struct LossFwd {
  const T* x;               // (rows, cols): predictions or logits
  const stat_t<T>* target;  // (rows, cols)
  stat_t<T>* loss;          // (1)
  std::int64_t rows, cols;
  LossKind kind;
  float delta;                // kHuber: > 0
  void* workspace = nullptr;  // loss_fwd_workspace_bytes() of device memory, 16-byte aligned
};
template <class T>
void loss_fwd(Cpu, const LossFwd<T>&);
template <class T>
void loss_fwd(Cuda, const LossFwd<T>&);

/// Bytes of LossFwd::workspace that these arguments need; it is not read.
template <class T>
std::size_t loss_fwd_workspace_bytes(Cpu, const LossFwd<T>&) {
  return 0;
}
template <class T>
std::size_t loss_fwd_workspace_bytes(Cuda, const LossFwd<T>&);

/// dx (+)= dloss[0] * d(mean loss)/dx.
template <class T>
struct LossBwd {
  const stat_t<T>* dloss;  // (1)
  const T* x;
  const stat_t<T>* target;
  T* dx;  // (rows, cols)
  GradMode mode;
  std::int64_t rows, cols;
  LossKind kind;
  float delta;
};
template <class T>
void loss_bwd(Cpu, const LossBwd<T>&);
template <class T>
void loss_bwd(Cuda, const LossBwd<T>&);

}  // namespace onpa::kernels
