#include "tensor/ops/norm.h"

#include <utility>

#include "kernels/norm.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

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

void check_operands(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  ONPA_CHECK(x.defined() && x.shape().rank() >= 1 && x.size(-1) >= 1, "layer_norm: x has shape ",
             x.shape(), ", want (..., C) with C >= 1");
  check_parameter(x, weight, "weight");
  check_parameter(x, bias, "bias");
  ONPA_CHECK(eps > 0, "layer_norm: eps is ", eps, ", want > 0");
}

// What a forward pass over x writes.
struct Normalised {
  Tensor y, mean, rstd;
};
Normalised empty_outputs(const Tensor& x) {
  const std::int64_t rows = x.shape().rows();
  return {Tensor::empty(x.shape(), x.dtype(), x.device()),
          Tensor::empty({rows}, stat_dtype(x.dtype()), x.device()),
          Tensor::empty({rows}, stat_dtype(x.dtype()), x.device())};
}

// `out` is the layer norm of x. A gradient that x already has is added to in the same pass.
Tensor recorded(const Normalised& out, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return record(out.y, {x, weight, bias},
                [x, weight, bias, mean = out.mean, rstd = out.rstd](const Tensor& dy) {
                  const GradTarget dx = grad_target(x), dweight = grad_target(weight),
                                   dbias = grad_target(bias);
                  const OpScope scope("layer_norm_bwd", [&] {
                    return OpWork{kLayerNormBwdFlops * elements(x),
                                  bytes_of(dy, x, weight, mean, rstd, dx, dweight, dbias)};
                  });
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
                                                        .rows = x.shape().rows(),
                                                        .cols = x.size(-1)};
                      },
                      [](auto dev, const auto& args) {
                        return kernels::layer_norm_bwd_workspace_bytes(dev, args);
                      },
                      [](auto dev, const auto& args) { kernels::layer_norm_bwd(dev, args); });
                });
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  check_operands(x, weight, bias, eps);
  const Normalised out = empty_outputs(x);
  const OpScope scope("layer_norm_fwd", [&] {
    return OpWork{kLayerNormFwdFlops * elements(x),
                  bytes_of(x, weight, bias, out.y, out.mean, out.rstd)};
  });
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::layer_norm_fwd<T>(dev, {.x = x.data<T>(),
                                       .weight = weight.data<T>(),
                                       .bias = bias.data<T>(),
                                       .y = out.y.data<T>(),
                                       .mean = out.mean.data<stat_t<T>>(),
                                       .rstd = out.rstd.data<stat_t<T>>(),
                                       .rows = x.shape().rows(),
                                       .cols = x.size(-1),
                                       .eps = eps});
    });
  });
  return recorded(out, x, weight, bias);
}

AddLayerNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                            const Tensor& bias, float eps) {
  check_operands(x, weight, bias, eps);
  ONPA_CHECK(residual.defined(), "add_layer_norm: residual is undefined");
  ONPA_CHECK(residual.shape() == x.shape() && residual.dtype() == x.dtype() &&
                 residual.device() == x.device(),
             "add_layer_norm: residual has shape ", residual.shape(), ", want ", x.shape(),
             " with x's dtype and device");
  const Tensor sum = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Normalised out = empty_outputs(x);
  const OpScope scope("add_layer_norm_fwd", [&] {
    return OpWork{(kLayerNormFwdFlops + 1) * elements(x),
                  bytes_of(x, residual, weight, bias, sum, out.y, out.mean, out.rstd)};
  });
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::add_layer_norm_fwd<T>(dev, {.x = x.data<T>(),
                                           .residual = residual.data<T>(),
                                           .weight = weight.data<T>(),
                                           .bias = bias.data<T>(),
                                           .s = sum.data<T>(),
                                           .y = out.y.data<T>(),
                                           .mean = out.mean.data<stat_t<T>>(),
                                           .rstd = out.rstd.data<stat_t<T>>(),
                                           .rows = x.shape().rows(),
                                           .cols = x.size(-1),
                                           .eps = eps});
    });
  });
  const Tensor added = record(sum, {x, residual}, [x, residual](Tensor ds) {
    accumulate_grad(x, ds);
    accumulate_grad(residual, std::move(ds));
  });
  return {added, recorded(out, added, weight, bias)};
}

}  // namespace onpa::ops
