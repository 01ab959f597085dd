// Which kernels run attention.
#include "kernels/attention.h"

#include "kernels/cuda/attention_plain.h"
#include "kernels/error.h"
#include "kernels/scalar.h"

namespace onpa::kernels {

template <>
void attention_fwd(Cuda dev, const AttentionFwd<float>& a) {
  attention_fwd_plain(dev, a);
}
template <>
void attention_fwd(Cuda dev, const AttentionFwd<bf16>& a) {
  attention_fwd_plain(dev, a);
}

template <>
void attention_bwd(Cuda dev, const AttentionBwd<float>& a) {
  ONPA_CHECK(a.workspace != nullptr, "attention_bwd: no workspace");
  attention_query_stats(dev, a);
  attention_bwd_plain(dev, a);
}
template <>
void attention_bwd(Cuda dev, const AttentionBwd<bf16>& a) {
  ONPA_CHECK(a.workspace != nullptr, "attention_bwd: no workspace");
  attention_query_stats(dev, a);
  attention_bwd_plain(dev, a);
}

}  // namespace onpa::kernels
