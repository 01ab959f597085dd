// Attention for any head width and alignment: what the tensor-core kernels do not cover.
#pragma once

#include "kernels/attention.h"

namespace onpa::kernels {

template <class T>
void attention_fwd_plain(Cuda, const AttentionFwd<T>&);
/// Reads the workspace that attention_query_stats filled.
template <class T>
void attention_bwd_plain(Cuda, const AttentionBwd<T>&);

/// Fills the workspace of backward.
template <class T>
void attention_query_stats(Cuda, const AttentionBwd<T>&);

}  // namespace onpa::kernels
