#include "tensor/ops/index.h"

#include "kernels/index.h"
#include "tensor/dispatch.h"

namespace onpa::ops {
namespace {

void check_tokens(const char* op, const Tensor& x) {
  ONPA_CHECK(x.defined() && x.shape().rank() == 3, op, ": x has shape ", x.shape(),
             ", want (B, N, C)");
}

}  // namespace

Tensor gather_rows(const Tensor& x, const std::vector<std::int32_t>& index) {
  check_tokens("gather_rows", x);
  const std::int64_t batch = x.size(0), rows = x.size(1), cols = x.size(2);
  for (const std::int32_t i : index) {
    ONPA_CHECK(i >= 0 && i < rows, "gather_rows: index ", i, " into ", rows, " rows");
  }
  const std::int64_t kept = static_cast<std::int64_t>(index.size());
  const Tensor indices = Tensor::from<std::int32_t>({kept}, index);
  Tensor y = Tensor::empty({batch, kept, cols}, x.dtype(), x.device());
  on_device(x.device(), [&](auto dev) {
    with_float(x.dtype(), [&]<class T>() {
      kernels::gather_rows<T>(dev, {.x = x.data<T>(),
                                    .index = indices.data<std::int32_t>(),
                                    .y = y.data<T>(),
                                    .batch = batch,
                                    .rows = rows,
                                    .kept = kept,
                                    .cols = cols});
    });
  });
  return record(y, {x}, [x, indices, batch, rows, kept, cols](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    on_device(x.device(), [&](auto dev) {
      with_float(x.dtype(), [&]<class T>() {
        kernels::scatter_rows<T>(dev, {.dy = dy.data<T>(),
                                       .index = indices.data<std::int32_t>(),
                                       .dx = dx.data<T>(),
                                       .mode = dx.mode,
                                       .batch = batch,
                                       .rows = rows,
                                       .kept = kept,
                                       .cols = cols});
      });
    });
  });
}

Tensor leading_rows(const Tensor& x, std::int64_t count) {
  check_tokens("leading_rows", x);
  const std::int64_t batch = x.size(0), tokens = x.size(1), cols = x.size(2);
  ONPA_CHECK(count >= 1 && count <= tokens, "leading_rows: ", count, " of ", tokens, " tokens");
  Tensor y = Tensor::empty({batch, count, cols}, x.dtype(), x.device());
  on_device(x.device(), [&](auto dev) {
    with_float(x.dtype(), [&]<class T>() {
      kernels::leading_rows_fwd<T>(dev, {.x = x.data<T>(),
                                         .y = y.data<T>(),
                                         .mode = kernels::GradMode::kAssign,
                                         .batch = batch,
                                         .tokens = tokens,
                                         .cols = cols,
                                         .count = count});
    });
  });
  return record(y, {x}, [x, batch, tokens, cols, count](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    on_device(x.device(), [&](auto dev) {
      with_float(x.dtype(), [&]<class T>() {
        kernels::leading_rows_bwd<T>(dev, {.x = dy.data<T>(),
                                           .y = dx.data<T>(),
                                           .mode = dx.mode,
                                           .batch = batch,
                                           .tokens = tokens,
                                           .cols = cols,
                                           .count = count});
      });
    });
  });
}

Tensor leading_mean(const Tensor& x, std::int64_t count) {
  check_tokens("leading_mean", x);
  const std::int64_t batch = x.size(0), tokens = x.size(1), cols = x.size(2);
  ONPA_CHECK(count >= 1 && count <= tokens, "leading_mean: ", count, " of ", tokens, " tokens");
  Tensor y = Tensor::empty({batch, cols}, x.dtype(), x.device());
  on_device(x.device(), [&](auto dev) {
    with_float(x.dtype(), [&]<class T>() {
      kernels::leading_mean_fwd<T>(dev, {.x = x.data<T>(),
                                         .y = y.data<T>(),
                                         .batch = batch,
                                         .tokens = tokens,
                                         .cols = cols,
                                         .count = count});
    });
  });
  return record(y, {x}, [x, batch, tokens, cols, count](const Tensor& dy) {
    const GradTarget dx = grad_target(x);
    on_device(x.device(), [&](auto dev) {
      with_float(x.dtype(), [&]<class T>() {
        kernels::leading_mean_bwd<T>(dev, {.dy = dy.data<T>(),
                                           .dx = dx.data<T>(),
                                           .mode = dx.mode,
                                           .batch = batch,
                                           .tokens = tokens,
                                           .cols = cols,
                                           .count = count});
      });
    });
  });
}

}  // namespace onpa::ops
