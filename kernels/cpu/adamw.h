// AdamW on ranges of a thread's own, for kernels that update what they have just computed.
#pragma once

#include <cstdint>

#include "kernels/optim.h"

namespace onpa::kernels {

/// What an update needs beside the buffers, folded in double as PyTorch folds it.
struct AdamWScalars {
  float decay, beta2, one_minus_beta1, one_minus_beta2, step_size, inv_sqrt_correction2, eps, scale;
};

/// Of the plain fields alone: neither `state` nor `grad_sum_of_squares` is looked at.
AdamWScalars adamw_scalars(const AdamW& a);

/// Updates the elements [begin, end) on this thread; of `a` the buffers count alone.
void adamw_elements(const AdamW& a, const AdamWScalars& s, std::int64_t begin, std::int64_t end);

}  // namespace onpa::kernels
