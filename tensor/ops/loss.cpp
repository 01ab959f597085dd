#include "tensor/ops/loss.h"

#include <cmath>

#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::ops {

Tensor loss(const Tensor& x, const Tensor& target, kernels::LossKind kind, float delta) {
  ONPA_CHECK(x.defined() && target.defined(), "loss: undefined input");
  ONPA_CHECK(x.shape().rank() >= 1 && x.numel() > 0, "loss: input ", x.shape(),
             ", want at least one value");
  ONPA_CHECK(target.shape() == x.shape(), "loss: target ", target.shape(), ", want ", x.shape());
  ONPA_CHECK(target.dtype() == stat_dtype(x.dtype()), "loss: target is ", name_of(target.dtype()),
             ", want ", name_of(stat_dtype(x.dtype())));
  ONPA_CHECK(target.device() == x.device(), "loss: target is on another device");
  ONPA_CHECK(kind != kernels::LossKind::kHuber || (std::isfinite(delta) && delta > 0),
             "loss: Huber delta ", delta, ", want a positive number");
  const std::int64_t cols = x.size(-1), rows = x.numel() / cols;
  Tensor y = Tensor::empty({1}, stat_dtype(x.dtype()), x.device());
  const OpScope scope("loss_fwd", [&] { return OpWork{3 * elements(x), bytes_of(x, target, y)}; });
  with_workspace(
      x.device(), x.dtype(),
      [&]<class T>() {
        return kernels::LossFwd<T>{.x = x.data<T>(),
                                   .target = target.data<stat_t<T>>(),
                                   .loss = y.data<stat_t<T>>(),
                                   .rows = rows,
                                   .cols = cols,
                                   .kind = kind,
                                   .delta = delta};
      },
      [](auto dev, const auto& args) { return kernels::loss_fwd_workspace_bytes(dev, args); },
      [](auto dev, const auto& args) { kernels::loss_fwd(dev, args); });
  return record(y, {x}, [x, target = target.detach(), kind, delta, rows, cols](Tensor dy) {
    const GradTarget dx = grad_target(x);
    if (!dx) return;
    const OpScope scope("loss_bwd", [&] {
      return OpWork{3 * elements(x), bytes_of(dy, x, target, dx)};
    });
    on_device(x.device(), [&](auto dev) {
      with_float(dev, x.dtype(), [&]<class T>() {
        kernels::loss_bwd<T>(dev, {.dloss = dy.data<stat_t<T>>(),
                                   .x = x.data<T>(),
                                   .target = target.data<stat_t<T>>(),
                                   .dx = dx.data<T>(),
                                   .mode = dx.mode,
                                   .rows = rows,
                                   .cols = cols,
                                   .kind = kind,
                                   .delta = delta});
      });
    });
  });
}

}  // namespace onpa::ops
