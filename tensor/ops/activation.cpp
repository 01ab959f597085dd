#include "tensor/ops/activation.h"

#include "kernels/activation.h"
#include "tensor/dispatch.h"

namespace onpa::ops {
namespace {

Tensor activate(const char* op, const Tensor& x, kernels::Activation activation) {
  ONPA_CHECK(x.defined(), op, ": x is undefined");
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::activation_fwd<T>(
          dev, {.x = x.data<T>(), .y = y.data<T>(), .n = x.numel(), .activation = activation});
    });
  });
  return record(y, {x}, [x, activation](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    on_device(x.device(), [&](auto dev) {
      with_float(dev, x.dtype(), [&]<class T>() {
        kernels::activation_bwd<T>(dev, {.dy = dy.data<T>(),
                                         .x = x.data<T>(),
                                         .dx = dx.data<T>(),
                                         .mode = dx.mode,
                                         .n = x.numel(),
                                         .activation = activation});
      });
    });
  });
}

}  // namespace

Tensor gelu(const Tensor& x) {
  return activate("gelu", x, kernels::Activation::kGelu);
}
Tensor relu(const Tensor& x) {
  return activate("relu", x, kernels::Activation::kRelu);
}

Tensor dropout(const Tensor& x, float p, const RngKey& key, const kernels::StepState* state) {
  ONPA_CHECK(x.defined() && x.shape().rank() >= 1, "dropout: x has shape ", x.shape(),
             ", want (B, ...)");
  ONPA_CHECK(p >= 0 && p < 1, "dropout: p is ", p, ", want [0, 1)");
  if (p == 0) return x;
  const std::int64_t rows = x.size(0), cols = rows == 0 ? 0 : x.numel() / rows;
  const auto apply = [rows, cols, p, key, state](const Tensor& from, const Tensor& to,
                                                 kernels::GradMode mode) {
    on_device(from.device(), [&](auto dev) {
      with_float(dev, from.dtype(), [&]<class T>() {
        kernels::dropout<T>(dev, {.x = from.data<T>(),
                                  .y = to.data<T>(),
                                  .mode = mode,
                                  .rows = rows,
                                  .cols = cols,
                                  .p = p,
                                  .key = key,
                                  .state = state});
      });
    });
  };
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  apply(x, y, kernels::GradMode::kAssign);
  return record(y, {x}, [x, apply](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    apply(dy, dx.tensor, dx.mode);
  });
}

}  // namespace onpa::ops
