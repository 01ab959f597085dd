#include "tensor/ops/linear.h"

#include "kernels/activation.h"
#include "kernels/elementwise.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::ops {
namespace {

using kernels::Activation;
using kernels::Trans;

// target (+)= op(a) op(b), target (m, n), k summed over.
void multiply_into(const char* name, const GradTarget& target, const Tensor& a, Trans trans_a,
                   const Tensor& b, Trans trans_b, std::int64_t m, std::int64_t n, std::int64_t k) {
  if (!target) return;
  const OpScope scope(name, [&] { return OpWork{product_flops(m, n, k), bytes_of(a, b, target)}; });
  on_device(a.device(), [&](auto dev) {
    with_float(dev, a.dtype(), [&]<class T>() {
      kernels::gemm<T>(dev, {.trans_a = trans_a,
                             .trans_b = trans_b,
                             .m = m,
                             .n = n,
                             .k = k,
                             .a = a.data<T>(),
                             .lda = trans_a == Trans::kNo ? k : m,
                             .b = b.data<T>(),
                             .ldb = trans_b == Trans::kNo ? n : k,
                             .c = target.data<T>(),
                             .ldc = n,
                             .beta = target.mode == kernels::GradMode::kAccumulate ? 1.0f : 0.0f});
    });
  });
}

void add_column_sum(const GradTarget& target, const Tensor& dy, std::int64_t rows,
                    std::int64_t cols) {
  if (!target) return;
  const OpScope scope("linear_bwd_bias", [&] {
    return OpWork{elements(dy), bytes_of(dy, target)};
  });
  with_workspace(
      dy.device(), dy.dtype(),
      [&]<class T>() {
        return kernels::ColumnSum<T>{.x = dy.data<T>(),
                                     .ldx = cols,
                                     .y = target.data<T>(),
                                     .mode = target.mode,
                                     .rows = rows,
                                     .cols = cols};
      },
      [](auto dev, const auto& args) { return kernels::column_sum_workspace_bytes(dev, args); },
      [](auto dev, const auto& args) { kernels::column_sum(dev, args); });
}

// dy becomes the gradient of the activation's argument, in place where nobody else holds it.
Tensor through_activation(Tensor dy, const Tensor& pre_activation, Activation activation) {
  if (activation == Activation::kNone) return dy;
  const Tensor out =
      dy.storage_use_count() == 1 ? dy : Tensor::empty(dy.shape(), dy.dtype(), dy.device());
  const OpScope scope("linear_bwd_activation", [&] {
    return OpWork{activation_bwd_flops(activation) * elements(dy),
                  bytes_of(dy, pre_activation, out)};
  });
  on_device(dy.device(), [&](auto dev) {
    with_float(dev, dy.dtype(), [&]<class T>() {
      kernels::activation_bwd<T>(dev, {.dy = dy.data<T>(),
                                       .x = pre_activation.data<T>(),
                                       .dx = out.data<T>(),
                                       .mode = kernels::GradMode::kAssign,
                                       .n = dy.numel(),
                                       .activation = activation});
    });
  });
  return out;
}

void check_operand(const Tensor& x, const Tensor& t, const char* name, const Shape& want) {
  ONPA_CHECK(t.shape() == want, "linear: ", name, " has shape ", t.shape(), ", want ", want,
             " for x of shape ", x.shape());
  ONPA_CHECK(t.dtype() == x.dtype() && t.device() == x.device(), "linear: ", name, " is ",
             name_of(t.dtype()), ", x is ", name_of(x.dtype()), "; dtype and device must agree");
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  ONPA_CHECK(a.defined() && b.defined() && a.shape().rank() == 2 && b.shape().rank() == 2 &&
                 a.size(1) == b.size(0) && a.dtype() == b.dtype() && a.device() == b.device(),
             "matmul: ", a.shape(), " ", name_of(a.dtype()), " times ", b.shape(), " ",
             name_of(b.dtype()), ", want (M, K) times (K, N) of one dtype and device");
  const std::int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  Tensor y = Tensor::empty({m, n}, a.dtype(), a.device());
  multiply_into("matmul_fwd", {y}, a, Trans::kNo, b, Trans::kNo, m, n, k);
  return record(y, {a, b}, [a, b, m, n, k](const Tensor& dy) {
    multiply_into("matmul_bwd_a", grad_target(a), dy, Trans::kNo, b, Trans::kYes, m, k, n);
    multiply_into("matmul_bwd_b", grad_target(b), a, Trans::kYes, dy, Trans::kNo, k, n, m);
  });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation,
              const Tensor& residual) {
  ONPA_CHECK(x.defined() && x.shape().rank() >= 1 && weight.defined() && weight.shape().rank() == 2,
             "linear: x ", x.shape(), ", weight ", weight.shape(), "; want (..., K) and (N, K)");
  const std::int64_t m = x.shape().rows(), k = x.size(-1), n = weight.size(0);
  check_operand(x, weight, "weight", {n, k});
  const Shape out_shape = x.shape().with(-1, n);
  if (bias.defined()) check_operand(x, bias, "bias", {n});
  if (residual.defined()) check_operand(x, residual, "residual", out_shape);

  Tensor y = Tensor::empty(out_shape, x.dtype(), x.device());
  const bool recorded =
      grad_enabled() && (x.requires_grad() || weight.requires_grad() || bias.requires_grad());
  const Tensor pre_activation = activation != Activation::kNone && recorded
                                    ? Tensor::empty(out_shape, x.dtype(), x.device())
                                    : Tensor();
  const OpScope scope("linear_fwd", [&] {
    const double epilogue =
        (bias.defined() ? 1 : 0) + activation_fwd_flops(activation) + (residual.defined() ? 1 : 0);
    return OpWork{product_flops(m, n, k) + epilogue * elements(y),
                  bytes_of(x, weight, bias, residual, y, pre_activation)};
  });
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::gemm<T>(
          dev, {.trans_b = Trans::kYes,
                .m = m,
                .n = n,
                .k = k,
                .a = x.data<T>(),
                .lda = k,
                .b = weight.data<T>(),
                .ldb = k,
                .c = y.data<T>(),
                .ldc = n,
                .bias = bias.defined() ? bias.data<T>() : nullptr,
                .activation = activation,
                .pre_activation = pre_activation.defined() ? pre_activation.data<T>() : nullptr,
                .residual = residual.defined() ? residual.data<T>() : nullptr});
    });
  });
  return record(y, {x, weight, bias, residual},
                [x, weight, bias, residual, pre_activation, activation, m, n, k](Tensor dy) {
                  const bool inner = x.requires_grad() || weight.requires_grad() ||
                                     (bias.defined() && bias.requires_grad());
                  if (inner) {
                    // The residual needs dy as it came, so only then is a copy made.
                    const Tensor kept = residual.requires_grad() ? dy : Tensor();
                    const Tensor g = through_activation(std::move(dy), pre_activation, activation);
                    multiply_into("linear_bwd_input", grad_target(x), g, Trans::kNo, weight,
                                  Trans::kNo, m, k, n);
                    multiply_into("linear_bwd_weight", grad_target(weight), g, Trans::kYes, x,
                                  Trans::kNo, n, k, m);
                    if (bias.defined()) add_column_sum(grad_target(bias), g, m, n);
                    dy = kept;
                  }
                  if (residual.requires_grad()) accumulate_grad(residual, std::move(dy));
                });
}

}  // namespace onpa::ops
