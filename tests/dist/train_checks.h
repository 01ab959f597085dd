// A small network trained by all ranks of a job together.
#pragma once

#include <vector>

#include "dist/comm.h"

namespace onpa::dist::testing {

struct Training {
  int steps = 10;
  int micro_batches = 1;            // that a rank adds up before it updates its weights
  std::int64_t bucket_bytes = 200;  // several a layer, and some of more than one parameter
};

/// The weights of rank comm.rank() after training on batches of 72 rows, which the ranks share
/// evenly. Ranks start with different weights; those of rank 0 count.
std::vector<float> train(Comm& comm, const Training& training);

/// Training on these ranks gives the weights of training on one to 1e-6, the same bits on all
/// ranks; with accumulated micro-batches too.
void check_training(Comm& comm);

}  // namespace onpa::dist::testing
