#include "kernels/attention.h"
#include "kernels/cpu/attention_rowwise.h"

namespace onpa::kernels {
template <>
void attention_bwd(Cpu, const AttentionBwd<float>& a) {
  rowwise::attention_bwd(a);
}
template <>
void attention_bwd(Cpu, const AttentionBwd<double>& a) {
  rowwise::attention_bwd(a);
}
}  // namespace onpa::kernels
