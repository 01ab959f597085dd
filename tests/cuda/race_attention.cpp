// Attention on grids that the race detector can afford: two blocks or more, at least three tiles.
#include <gtest/gtest.h>

#include "kernels/scalar.h"
#include "tests/cuda/attention_runs.h"

namespace onpa::testing {
namespace {

template <class T>
void run(const AttentionCase& s) {
  run_attention<T>(s, attention_input(s), attention_slope(s));
}

TEST(RaceAttention, TensorCores) {
  run<bf16>({1, 140, 1, 64, 140});
}
TEST(RaceAttention, Plain) {
  run<float>({1, 40, 1, 70, 40});
  run<bf16>({1, 130, 1, 8, 33});
}

}  // namespace
}  // namespace onpa::testing
