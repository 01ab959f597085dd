// A small network trained by all ranks of a job together.
#pragma once

#include <vector>

#include "dist/comm.h"

namespace onpa::dist::testing {

struct Training {
  int steps = 10;
  int micro_batches = 1;            // that a rank adds up before it updates its weights
  std::int64_t bucket_bytes = 200;  // several a layer, and some of more than one parameter
  DeviceKind device = DeviceKind::kCpu;
  DType dtype = DType::kF32;  // bf16 on the GPU: of gradients and what the model computes in
  bool captured = false;      // on the GPU: a step is a DeviceStep
};

/// The weights of rank comm.rank() after training on batches of 72 rows, which the ranks share
/// evenly. Ranks start with different weights; those of rank 0 count.
std::vector<float> train(Comm& comm, const Training& training);

/// Training on one rank, on the CPU.
std::vector<float> train_alone(const Training& training = {});

/// The largest difference between two elements at the same place; infinite for unequal lengths.
double largest_difference(const std::vector<float>& a, const std::vector<float>& b);

/// Whether all ranks have these bits.
void expect_same_on_all_ranks(Comm& comm, const std::vector<float>& weights);

/// Training on these ranks gives the weights of training on one to 1e-6, the same bits on all
/// ranks; with accumulated micro-batches too.
void check_training(Comm& comm);

}  // namespace onpa::dist::testing
