#include "tensor/ops/math.h"

#include "kernels/elementwise.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::ops {
namespace {

void check_same(const char* op, const Tensor& a, const Tensor& b) {
  ONPA_CHECK(a.defined() && b.defined(), op, ": an operand is undefined");
  ONPA_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype() && a.device() == b.device(), op, ": ",
             a.shape(), " ", name_of(a.dtype()), " and ", b.shape(), " ", name_of(b.dtype()),
             "; shape, dtype and device must agree");
}

// alpha a + beta b; b may be undefined.
Tensor combine(const char* name, const Tensor& a, double alpha, const Tensor& b, double beta) {
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  const OpScope scope(name, [&] { return OpWork{elements(a), bytes_of(a, b, y)}; });
  on_device(a.device(), [&](auto dev) {
    with_float(dev, a.dtype(), [&]<class T>() {
      kernels::axpby<T>(dev, {.a = a.data<T>(),
                              .b = b.defined() ? b.data<T>() : nullptr,
                              .y = y.data<T>(),
                              .alpha = static_cast<stat_t<T>>(alpha),
                              .beta = static_cast<stat_t<T>>(beta),
                              .n = a.numel()});
    });
  });
  return y;
}

void add_product(const Tensor& dy, const Tensor& factor, const Tensor& into) {
  const GradTarget target = grad_target(into);
  if (!target) return;
  const OpScope scope("mul_bwd", [&] {
    return OpWork{elements(dy), bytes_of(dy, factor, target)};
  });
  on_device(dy.device(), [&](auto dev) {
    with_float(dev, dy.dtype(), [&]<class T>() {
      kernels::multiply<T>(dev, {.a = dy.data<T>(),
                                 .b = factor.data<T>(),
                                 .y = target.data<T>(),
                                 .mode = target.mode,
                                 .n = dy.numel()});
    });
  });
}

Tensor scaled_sum(const Tensor& x, double alpha) {
  Tensor y = Tensor::empty({1}, x.dtype(), x.device());
  const OpScope scope("sum_fwd", [&] { return OpWork{elements(x), bytes_of(x, y)}; });
  with_workspace(
      x.device(), x.dtype(),
      [&]<class T>() {
        return kernels::Sum<T>{.x = x.data<T>(),
                               .y = y.data<T>(),
                               .alpha = static_cast<stat_t<T>>(alpha),
                               .n = x.numel()};
      },
      [](auto dev, const auto& args) { return kernels::sum_workspace_bytes(dev, args); },
      [](auto dev, const auto& args) { kernels::sum(dev, args); });
  return record(y, {x}, [x, alpha](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    const OpScope scope("sum_bwd", [&] { return OpWork{elements(x), bytes_of(dy, dx)}; });
    on_device(x.device(), [&](auto dev) {
      with_float(dev, x.dtype(), [&]<class T>() {
        kernels::broadcast_scalar<T>(dev, {.x = dy.data<T>(),
                                           .y = dx.data<T>(),
                                           .alpha = static_cast<stat_t<T>>(alpha),
                                           .mode = dx.mode,
                                           .n = x.numel()});
      });
    });
  });
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  check_same("add", a, b);
  return record(combine("add_fwd", a, 1, b, 1), {a, b}, [a, b](Tensor dy) {
    accumulate_grad(a, dy);
    accumulate_grad(b, std::move(dy));
  });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  check_same("sub", a, b);
  return record(combine("sub_fwd", a, 1, b, -1), {a, b}, [a, b](Tensor dy) {
    if (b.requires_grad()) accumulate_grad(b, combine("sub_bwd", dy, -1, {}, 0));
    accumulate_grad(a, std::move(dy));
  });
}

Tensor mul(const Tensor& a, const Tensor& b) {
  check_same("mul", a, b);
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  const OpScope scope("mul_fwd", [&] { return OpWork{elements(a), bytes_of(a, b, y)}; });
  on_device(a.device(), [&](auto dev) {
    with_float(dev, a.dtype(), [&]<class T>() {
      kernels::multiply<T>(dev, {.a = a.data<T>(),
                                 .b = b.data<T>(),
                                 .y = y.data<T>(),
                                 .mode = kernels::GradMode::kAssign,
                                 .n = a.numel()});
    });
  });
  return record(y, {a, b}, [a, b](const Tensor& dy) {
    add_product(dy, b, a);
    add_product(dy, a, b);
  });
}

Tensor scale(const Tensor& x, double alpha) {
  ONPA_CHECK(x.defined(), "scale: x is undefined");
  return record(combine("scale_fwd", x, alpha, {}, 0), {x}, [x, alpha](const Tensor& dy) {
    accumulate_grad(x, combine("scale_bwd", dy, alpha, {}, 0));
  });
}

Tensor sum(const Tensor& x) {
  ONPA_CHECK(x.defined(), "sum: x is undefined");
  return scaled_sum(x, 1.0);
}

Tensor mean(const Tensor& x) {
  ONPA_CHECK(x.defined() && x.numel() > 0, "mean: x of shape ", x.shape(), " is empty");
  return scaled_sum(x, 1.0 / static_cast<double>(x.numel()));
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  ONPA_CHECK(x.defined() && x.numel() == shape.numel(), "reshape: ", x.shape(), " to ", shape);
  return record(x.view(shape), {x}, [x](Tensor dy) { accumulate_grad(x, std::move(dy)); });
}

}  // namespace onpa::ops
