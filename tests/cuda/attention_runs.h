// Runs of attention's Cuda overloads on guarded memory.
#pragma once

#include <vector>

#include "kernels/attention.h"
#include "tests/cuda/device_memory.h"
#include "tests/kernels/attention_cases.h"

namespace onpa::testing {

template <class T>
struct AttentionRun {
  std::vector<T> y, dqkv;
  std::vector<float> lse;
};

/// Forward and backward; every array begins `offset` elements behind an aligned address.
template <class T>
AttentionRun<T> run_attention(const AttentionCase& s, const std::vector<double>& qkv_values,
                              const std::vector<double>& dy_values, std::int64_t offset = 0) {
  const DeviceArray<T> qkv(cast_to<T>(qkv_values), offset), dy(cast_to<T>(dy_values), offset);
  const DeviceArray<T> y(s.batch * s.queries * s.width(), offset);
  const DeviceArray<T> dqkv(s.batch * s.tokens * 3 * s.width(), offset);
  const DeviceArray<float> lse(s.batch * s.heads * s.queries);
  const DeviceArray<unsigned char> workspace(static_cast<std::int64_t>(
      kernels::attention_bwd_workspace_bytes(kernels::Cuda{}, s.batch, s.heads, s.queries)));
  kernels::attention_fwd<T>(kernels::Cuda{}, {.qkv = qkv.data(),
                                              .y = y.data(),
                                              .lse = lse.data(),
                                              .batch = s.batch,
                                              .tokens = s.tokens,
                                              .heads = s.heads,
                                              .head_dim = s.dim,
                                              .queries = s.queries,
                                              .scale = s.scale()});
  kernels::attention_bwd<T>(kernels::Cuda{}, {.dy = dy.data(),
                                              .qkv = qkv.data(),
                                              .y = y.data(),
                                              .lse = lse.data(),
                                              .dqkv = dqkv.data(),
                                              .batch = s.batch,
                                              .tokens = s.tokens,
                                              .heads = s.heads,
                                              .head_dim = s.dim,
                                              .queries = s.queries,
                                              .scale = s.scale(),
                                              .workspace = workspace.data()});
  return {y.to_host(), dqkv.to_host(), lse.to_host()};
}

}  // namespace onpa::testing
