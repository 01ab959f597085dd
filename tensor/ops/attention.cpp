#include "tensor/ops/attention.h"

#include <cmath>
#include <utility>

#include "kernels/attention.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::ops {
namespace {

// Of `products` matrix products between every query and every key, for all heads.
double attention_flops(int products, const Tensor& qkv, const Tensor& y) {
  return products * product_flops(qkv.size(1), y.size(1), qkv.size(0) * y.size(2));
}

}  // namespace

Tensor attention(const Tensor& qkv, std::int64_t heads, std::int64_t queries) {
  ONPA_CHECK(qkv.defined() && qkv.shape().rank() == 3, "attention: qkv has shape ", qkv.shape(),
             ", want (B, N, 3 * H * D)");
  const std::int64_t batch = qkv.size(0), tokens = qkv.size(1);
  ONPA_CHECK(heads >= 1 && qkv.size(2) >= 3 && qkv.size(2) % (3 * heads) == 0,
             "attention: qkv has shape ", qkv.shape(), ", its last axis is no multiple of 3 * ",
             heads, " heads");
  ONPA_CHECK(tokens >= 1 && queries >= 0 && queries <= tokens, "attention: ", queries,
             " queries, want 0 to N for qkv of shape ", qkv.shape(), " with N >= 1");
  if (queries == 0) queries = tokens;
  const std::int64_t width = qkv.size(2) / 3, head_dim = width / heads;
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  Tensor y = Tensor::empty({batch, queries, width}, qkv.dtype(), qkv.device());
  const Tensor lse = Tensor::empty({batch, heads, queries}, stat_dtype(qkv.dtype()), qkv.device());
  const OpScope scope("attention_fwd", [&] {
    return OpWork{attention_flops(2, qkv, y), bytes_of(qkv, y, lse)};
  });
  on_device(qkv.device(), [&](auto dev) {
    with_float(dev, qkv.dtype(), [&]<class T>() {
      kernels::attention_fwd<T>(dev, {.qkv = qkv.data<T>(),
                                      .y = y.data<T>(),
                                      .lse = lse.data<stat_t<T>>(),
                                      .batch = batch,
                                      .tokens = tokens,
                                      .heads = heads,
                                      .head_dim = head_dim,
                                      .queries = queries,
                                      .scale = scale});
    });
  });
  return record(y, {qkv}, [qkv, y = y.detach(), lse, heads, head_dim, scale](const Tensor& dy) {
    Tensor dqkv = Tensor::empty(qkv.shape(), qkv.dtype(), qkv.device());
    const Tensor scratch = workspace(qkv.device(), [&](auto dev) {
      return kernels::attention_bwd_workspace_bytes(dev, qkv.size(0), heads, y.size(1));
    });
    {
      const OpScope scope("attention_bwd", [&] {
        return OpWork{attention_flops(5, qkv, y), bytes_of(dy, qkv, y, lse, dqkv)};
      });
      on_device(qkv.device(), [&](auto dev) {
        with_float(dev, qkv.dtype(), [&]<class T>() {
          kernels::attention_bwd<T>(dev,
                                    {.dy = dy.data<T>(),
                                     .qkv = qkv.data<T>(),
                                     .y = y.data<T>(),
                                     .lse = lse.data<stat_t<T>>(),
                                     .dqkv = dqkv.data<T>(),
                                     .batch = qkv.size(0),
                                     .tokens = qkv.size(1),
                                     .heads = heads,
                                     .head_dim = head_dim,
                                     .queries = y.size(1),
                                     .scale = scale,
                                     .workspace = scratch.defined() ? scratch.bytes() : nullptr});
        });
      });
    }
    accumulate_grad(qkv, std::move(dqkv));
  });
}

}  // namespace onpa::ops
