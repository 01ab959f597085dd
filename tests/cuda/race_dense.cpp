// Dense steps on grids that the race detector can afford: two blocks of rows, of which the second
// is not full, several tiles, two chunks of the batch where there is one layer.
#include <gtest/gtest.h>

#include "tests/cuda/dense_runs.h"

namespace onpa::testing {
namespace {

TEST(DenseRace, Layers) {
  const kernels::DenseCase c{.inputs = 3,
                             .hidden = {34, 5},
                             .batch = 9,
                             .rows = 12,
                             .activation = kernels::Activation::kGelu,
                             .dropout = 0.5f};
  expect_dense_run(c, run_dense(c, kernels::dense_model<float>(c), {}, 1), {}, 1);
}

TEST(DenseRace, Clipping) {
  const kernels::DenseCase c{.inputs = 3, .hidden = {5}, .batch = 9, .rows = 9, .clip_norm = 0.1f};
  expect_dense_run(c, run_dense(c, kernels::dense_model<float>(c), {}, 1), {}, 1);
}

TEST(DenseRace, Chunks) {
  const kernels::DenseCase c{.inputs = 2, .hidden = {}, .batch = 72, .rows = 72};
  expect_dense_run(c, run_dense(c, kernels::dense_model<float>(c), {}, 1), {}, 1);
}

}  // namespace
}  // namespace onpa::testing
