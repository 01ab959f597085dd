// Trading time for memory: values that backward needs are dropped after the forward pass and
// worked out again when it gets there. Source: arXiv:1604.06174.
#pragma once

#include <functional>
#include <vector>

#include "tensor/tensor.h"

namespace onpa {

using Tensors = std::vector<Tensor>;

/// last(inputs, first(inputs)), of which only `inputs`, the result and what `last` itself keeps
/// stay in memory: the tensors made by `first` are dropped once `last` has used them. Backward runs
/// `first` again, then goes through `last` and `first`; `last` is not run again, so what need not
/// be rerun belongs there. Differentiable in `inputs` and in the parameters that the functions use.
/// Gradients have the bits that they have without recomputation.
///
/// `first` must make the same tensors whenever it runs with the same inputs: random draws by key.
/// Both are given stand-ins for `inputs` and may use other tensors only if these have no gradient
/// history (parameters, constants); backward throws Error otherwise. Parameters must not change
/// before backward has run. Without recording this is last(inputs, first(inputs)).
Tensor recompute(const Tensors& inputs, const std::function<Tensors(const Tensors& inputs)>& first,
                 const std::function<Tensor(const Tensors& inputs, const Tensors& made)>& last);

}  // namespace onpa
