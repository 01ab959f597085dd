#include "tensor/ops/index.h"

#include "kernels/index.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::ops {
namespace {

void check_leading(const char* op, const Tensor& x, std::int64_t count) {
  ONPA_CHECK(x.defined() && x.shape().rank() == 3, op, ": x has shape ", x.shape(),
             ", want (B, N, C)");
  ONPA_CHECK(count >= 1 && count <= x.size(1), op, ": ", count, " of ", x.size(1), " tokens");
}

// Reads `from` and writes `to`, of which one holds `count` tokens of each sample of `shape` or
// their mean and the other is of that shape.
template <class T>
kernels::LeadingTokens<T> leading_tokens(const Shape& shape, std::int64_t count, const Tensor& from,
                                         const GradTarget& to) {
  return {.x = from.data<T>(),
          .y = to.data<T>(),
          .mode = to.mode,
          .batch = shape[0],
          .tokens = shape[1],
          .cols = shape[2],
          .count = count};
}

// Bytes of giving `touched` elements of dx their share of dy: the rest of dx becomes 0 or stays.
double spread_bytes(const Tensor& dy, const GradTarget& dx, std::int64_t touched) {
  const bool adds = dx.mode == kernels::GradMode::kAccumulate;
  const double written =
      adds ? 2.0 * static_cast<double>(touched) * size_of(dy.dtype()) : bytes_of(dx);
  return bytes_of(dy) + written;
}

}  // namespace

Tensor leading_rows(const Tensor& x, std::int64_t count) {
  check_leading("leading_rows", x, count);
  Tensor y = Tensor::empty({x.size(0), count, x.size(2)}, x.dtype(), x.device());
  const OpScope scope("leading_rows_fwd", [&] { return OpWork{0, bytes_of(y, y)}; });
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::leading_rows_fwd(dev, leading_tokens<T>(x.shape(), count, x, {y}));
    });
  });
  return record(y, {x}, [x, count](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    const OpScope scope("leading_rows_bwd", [&] {
      const bool adds = dx.mode == kernels::GradMode::kAccumulate;
      return OpWork{adds ? elements(dy) : 0, spread_bytes(dy, dx, dy.numel())};
    });
    on_device(x.device(), [&](auto dev) {
      with_float(dev, x.dtype(), [&]<class T>() {
        kernels::leading_rows_bwd(dev, leading_tokens<T>(x.shape(), count, dy, dx));
      });
    });
  });
}

Tensor leading_mean(const Tensor& x, std::int64_t count) {
  check_leading("leading_mean", x, count);
  Tensor y = Tensor::empty({x.size(0), x.size(2)}, x.dtype(), x.device());
  const OpScope scope("leading_mean_fwd", [&] {
    const auto rows = static_cast<double>(count);
    return OpWork{rows * elements(y), (rows + 1) * bytes_of(y)};
  });
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::leading_mean_fwd(dev, leading_tokens<T>(x.shape(), count, x, {y}));
    });
  });
  return record(y, {x}, [x, count](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    const OpScope scope("leading_mean_bwd", [&] {
      return OpWork{static_cast<double>(count) * elements(dy),
                    spread_bytes(dy, dx, count * dy.numel())};
    });
    on_device(x.device(), [&](auto dev) {
      with_float(dev, x.dtype(), [&]<class T>() {
        kernels::leading_mean_bwd(dev, leading_tokens<T>(x.shape(), count, dy, dx));
      });
    });
  });
}

}  // namespace onpa::ops
