// Which kernels run attention: tensor cores for bf16 with their head width, plain ones otherwise.
#include "kernels/attention.h"

#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/attention_tensor_core.h"
#include "kernels/cuda/vec.cuh"
#include "kernels/error.h"
#include "kernels/scalar.h"

namespace onpa::kernels {
namespace {

template <class T>
void prepare_backward(Cuda dev, const AttentionBwd<T>& a) {
  ONPA_CHECK(a.batch == 0 || (a.workspace != nullptr && gpu::aligned16(a.workspace)),
             "attention_bwd: workspace is ", a.workspace, ", want 16-byte aligned memory");
  attention_query_stats(dev, a);
}

}  // namespace

template <>
void attention_fwd(Cuda dev, const AttentionFwd<float>& a) {
  attention_fwd_plain(dev, a);
}
template <>
void attention_fwd(Cuda dev, const AttentionFwd<bf16>& a) {
  if (a.head_dim == kTensorCoreHeadDim && gpu::aligned16(a.qkv, a.y)) {
    attention_fwd_tensor_core(dev, a);
  } else {
    attention_fwd_plain(dev, a);
  }
}

template <>
void attention_bwd(Cuda dev, const AttentionBwd<float>& a) {
  prepare_backward(dev, a);
  attention_bwd_plain(dev, a);
}
template <>
void attention_bwd(Cuda dev, const AttentionBwd<bf16>& a) {
  prepare_backward(dev, a);
  if (a.head_dim == kTensorCoreHeadDim && gpu::aligned16(a.dy, a.qkv, a.dqkv)) {
    attention_dkv_tensor_core(dev, a);
    attention_dq_tensor_core(dev, a);
  } else {
    attention_bwd_plain(dev, a);
  }
}

}  // namespace onpa::kernels
