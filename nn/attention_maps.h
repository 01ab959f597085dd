// What a trained transformer attends to. The blocks keep no attention probabilities, so these work
// them out again, a block of rows at a time: no (N, N) matrix is ever held, nor any gradient.
#pragma once

#include <cstdint>

#include "nn/passt.h"
#include "tensor/tensor.h"

namespace onpa::nn {

/// Probabilities with which the tokens [first, first + count) attend to every token, in one head.
///   qkv  (1, N, 3 C), as Attention::project() returns it; any device and dtype
/// Returns (count, N), f32 on the CPU; rows sum to 1. Throws Error if head or rows are out of
/// range.
Tensor attention_rows(const Tensor& qkv, std::int64_t heads, std::int64_t head, std::int64_t first,
                      std::int64_t count);

/// rows (R, N), f32 on the CPU, times the mean over heads of the attention matrix (N, N).
Tensor times_mean_attention(const Tensor& rows, const Tensor& qkv, std::int64_t heads);

/// Attention rollout of the class and the distillation token: their rows of the product over layers
/// of A / 2 + I / 2, where A is the mean over heads of a layer's attention.
///   tokens  (1, N, C), as Passt::tokens() returns it
/// Returns (2, N), f32 on the CPU; rows sum to 1. Source: arXiv:2005.00928.
Tensor attention_rollout(const Passt& model, const Tensor& tokens);

/// What the class and the distillation token attend to in one layer: in one head, or the mean over
/// heads if `head` is -1. Shapes as above. Throws Error if layer or head is out of range.
Tensor prefix_attention(const Passt& model, const Tensor& tokens, std::int64_t layer,
                        std::int64_t head = -1);

}  // namespace onpa::nn
