// An optimizer whose moments lie in parts on the ranks (ZeRO stage 1): what it takes to start, step
// and save. All are collectives; where the optimizer keeps everything they cost nothing but what
// they say.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apps/training/ranks.h"
#include "dist/comm.h"
#include "nn/optim.h"
#include "tensor/flat_params.h"

namespace onpa::apps {

/// The moments of all parameters that learn by name, in the layout of the gradient, on the CPU.
using Moments = std::vector<std::pair<std::string, Tensor>>;

/// This rank's part, if the moments are to be kept in parts.
nn::OptimizerShard optimizer_shard(bool in_parts, const Ranks& ranks);

/// Room for the moments of all: the optimizer's own buffers where it keeps everything.
Moments whole_moments(const nn::Optimizer& optimizer, const FlatParams& params);
/// Those of `whole` on rank 0 become the optimizer's, part by part. Other ranks' `whole` may be
/// empty.
void share_moments(const Ranks& ranks, const nn::Optimizer& optimizer, const FlatParams& params,
                   const Moments& whole);
/// The moments of all ranks, on rank 0; elsewhere empty.
Moments gather_moments(const Ranks& ranks, const nn::Optimizer& optimizer,
                       const FlatParams& params);
/// After a step: fetches the parameters that other ranks have updated, over a Comm of the device
/// that they are on.
void gather_parameters(dist::Comm& comm, const nn::Optimizer& optimizer, const FlatParams& params);

}  // namespace onpa::apps
