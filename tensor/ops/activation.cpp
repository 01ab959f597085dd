#include "tensor/ops/activation.h"

#include <utility>

#include "kernels/activation.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::ops {
namespace {

// dx (+)= dy * act'(x).
void add_slope(const char* name, const Tensor& dy, const Tensor& x, const GradTarget& dx,
               kernels::Activation activation) {
  const OpScope scope(name, [&] {
    return OpWork{activation_bwd_flops(activation) * elements(x), bytes_of(dy, x, dx)};
  });
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
}

Tensor activate(const char* fwd, const char* bwd, const Tensor& x, kernels::Activation activation) {
  ONPA_CHECK(x.defined(), fwd, ": x is undefined");
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const OpScope scope(fwd, [&] {
    return OpWork{activation_fwd_flops(activation) * elements(x), bytes_of(x, y)};
  });
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::activation_fwd<T>(
          dev, {.x = x.data<T>(), .y = y.data<T>(), .n = x.numel(), .activation = activation});
    });
  });
  return record(y, {x}, [bwd, x, activation](Tensor dy) {
    // In place where nobody else holds dy and there is nothing to add to.
    if (dy.storage_use_count() == 1 && !x.grad().defined()) {
      add_slope(bwd, dy, x, {dy}, activation);
      accumulate_grad(x, std::move(dy));
    } else {
      add_slope(bwd, dy, x, grad_target(x), activation);
    }
  });
}

}  // namespace

Tensor gelu(const Tensor& x) {
  return activate("gelu_fwd", "gelu_bwd", x, kernels::Activation::kGelu);
}
Tensor relu(const Tensor& x) {
  return activate("relu_fwd", "relu_bwd", x, kernels::Activation::kRelu);
}

Tensor dropout(const Tensor& x, float p, const RngKey& key, const kernels::StepState* state) {
  ONPA_CHECK(x.defined() && x.shape().rank() >= 1, "dropout: x has shape ", x.shape(),
             ", want (B, ...)");
  ONPA_CHECK(p >= 0 && p < 1, "dropout: p is ", p, ", want [0, 1)");
  if (p == 0) return x;
  const std::int64_t rows = x.size(0), cols = rows == 0 ? 0 : x.numel() / rows;
  const auto apply = [rows, cols, p, key, state](const char* name, const Tensor& from,
                                                 const GradTarget& to) {
    const OpScope scope(name, [&] { return OpWork{2 * elements(from), bytes_of(from, to)}; });
    on_device(from.device(), [&](auto dev) {
      with_float(dev, from.dtype(), [&]<class T>() {
        kernels::dropout<T>(dev, {.x = from.data<T>(),
                                  .y = to.data<T>(),
                                  .mode = to.mode,
                                  .rows = rows,
                                  .cols = cols,
                                  .p = p,
                                  .key = key,
                                  .state = state});
      });
    });
  };
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  apply("dropout_fwd", x, {y});
  return record(y, {x}, [x, apply](const Tensor& dy) { apply("dropout_bwd", dy, grad_target(x)); });
}

}  // namespace onpa::ops
