#include "tensor/ops/norm.h"

#include "kernels/norm.h"
#include "tensor/dispatch.h"

namespace onpa::ops {
namespace {

void check_parameter(const Tensor& x, const Tensor& parameter, const char* name) {
  ONPA_CHECK(parameter.defined(), "layer_norm: ", name, " is undefined");
  ONPA_CHECK(parameter.shape() == Shape{x.size(-1)}, "layer_norm: ", name, " has shape ",
             parameter.shape(), ", want ", Shape{x.size(-1)}, " for x of shape ", x.shape());
  ONPA_CHECK(parameter.dtype() == x.dtype() && parameter.device() == x.device(),
             "layer_norm: ", name, " is ", name_of(parameter.dtype()), ", x is ",
             name_of(x.dtype()), "; dtype and device must agree");
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  ONPA_CHECK(x.defined() && x.shape().rank() >= 1 && x.size(-1) >= 1, "layer_norm: x has shape ",
             x.shape(), ", want (..., C) with C >= 1");
  check_parameter(x, weight, "weight");
  check_parameter(x, bias, "bias");
  ONPA_CHECK(eps > 0, "layer_norm: eps is ", eps, ", want > 0");
  const std::int64_t rows = x.shape().rows(), cols = x.size(-1);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor mean = Tensor::empty({rows}, stat_dtype(x.dtype()), x.device());
  const Tensor rstd = Tensor::empty({rows}, stat_dtype(x.dtype()), x.device());
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::layer_norm_fwd<T>(dev, {.x = x.data<T>(),
                                       .weight = weight.data<T>(),
                                       .bias = bias.data<T>(),
                                       .y = y.data<T>(),
                                       .mean = mean.data<stat_t<T>>(),
                                       .rstd = rstd.data<stat_t<T>>(),
                                       .rows = rows,
                                       .cols = cols,
                                       .eps = eps});
    });
  });
  return record(y, {x, weight, bias}, [x, weight, bias, mean, rstd, rows, cols](const Tensor& dy) {
    const GradTarget dx = grad_target(x), dweight = grad_target(weight), dbias = grad_target(bias);
    with_workspace(
        x.device(), x.dtype(),
        [&]<class T>() {
          return kernels::LayerNormBwd<T>{.dy = dy.data<T>(),
                                          .x = x.data<T>(),
                                          .weight = weight.data<T>(),
                                          .mean = mean.data<stat_t<T>>(),
                                          .rstd = rstd.data<stat_t<T>>(),
                                          .dx = dx.data<T>(),
                                          .dx_mode = dx.mode,
                                          .dweight = dweight.data<T>(),
                                          .dbias = dbias.data<T>(),
                                          .dweight_mode = dweight.mode,
                                          .dbias_mode = dbias.mode,
                                          .rows = rows,
                                          .cols = cols};
        },
        [](auto dev, const auto& args) {
          return kernels::layer_norm_bwd_workspace_bytes(dev, args);
        },
        [](auto dev, const auto& args) { kernels::layer_norm_bwd(dev, args); });
  });
}

}  // namespace onpa::ops
