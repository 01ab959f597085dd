// Multi-head softmax attention without a stored N x N matrix (online softmax).
// Source: Dao, "FlashAttention-2", arXiv:2307.08691.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/dtype.h"

namespace onpa::kernels {

/// y = softmax(q k^T * scale) v per head, q, k, v read from the packed projection.
/// Row n of `qkv` holds q (heads * head_dim), then k, then v; head h is columns
/// [h * head_dim, (h + 1) * head_dim) of each. Scratch is blocks of a fixed size and at
/// most one value per token for each thread, never tokens^2.
template <class T>
struct AttentionFwd {
  const T* qkv;  // (batch, tokens, 3 * heads * head_dim)
  T* y;          // (batch, queries, heads * head_dim)
  stat_t<T>*
      lse;  // (batch, heads, queries): natural log of the softmax denominator; kept for backward
  std::int64_t batch, tokens, heads, head_dim;  // tokens, heads, head_dim >= 1
  std::int64_t queries;                         // 1..tokens: only the first `queries` rows ask
  float scale;                                  // > 0
};
template <class T>
void attention_fwd(Cpu, const AttentionFwd<T>&);
template <class T>
void attention_fwd(Cuda, const AttentionFwd<T>&);

/// dqkv = gradient of attention_fwd, overwritten (dq rows >= queries are 0). Deterministic.
template <class T>
struct AttentionBwd {
  const T* dy;       // (batch, queries, heads * head_dim)
  const T *qkv, *y;  // as in AttentionFwd
  const stat_t<T>* lse;
  T* dqkv;  // (batch, tokens, 3 * heads * head_dim)
  std::int64_t batch, tokens, heads, head_dim, queries;
  float scale;
  void* workspace = nullptr;  // attention_bwd_workspace_bytes, 16-byte aligned; null if that is 0
};

/// Bytes that attention_bwd writes and reads for itself.
inline std::size_t attention_bwd_workspace_bytes(Cpu, std::int64_t /*batch*/,
                                                 std::int64_t /*heads*/, std::int64_t /*queries*/) {
  return 0;
}
inline std::size_t attention_bwd_workspace_bytes(Cuda, std::int64_t batch, std::int64_t heads,
                                                 std::int64_t queries) {
  // Two floats for each query; the number of queries is rounded up to a block's.
  const std::int64_t padded_queries = (queries + 63) / 64 * 64;
  return static_cast<std::size_t>(batch * heads * padded_queries) * 2 * sizeof(float);
}

template <class T>
void attention_bwd(Cpu, const AttentionBwd<T>&);
template <class T>
void attention_bwd(Cuda, const AttentionBwd<T>&);

}  // namespace onpa::kernels
