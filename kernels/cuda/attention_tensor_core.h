// Attention in bf16 on tensor cores: a head width of 64 and 16-byte aligned arguments.
#pragma once

#include "kernels/attention.h"
#include "kernels/scalar.h"

namespace onpa::kernels {

constexpr std::int64_t kTensorCoreHeadDim = 64;

void attention_fwd_tensor_core(Cuda, const AttentionFwd<bf16>&);
/// Both read the workspace that attention_query_stats filled: the first writes dk, dv, and zeros to
/// the rows of dq that did not ask, the second the other rows of dq.
void attention_dkv_tensor_core(Cuda, const AttentionBwd<bf16>&);
void attention_dq_tensor_core(Cuda, const AttentionBwd<bf16>&);

}  // namespace onpa::kernels
