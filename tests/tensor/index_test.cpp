#include "tensor/ops/index.h"

#include <gtest/gtest.h>

#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::random_normal;
using Inputs = std::vector<Tensor>;

TEST(Index, Gradients) {
  const Tensor x = random_normal({2, 5, 3}, 1);
  check_gradients([](const Inputs& in) { return ops::leading_rows(in[0], 2); }, {x.clone()});
  check_gradients([](const Inputs& in) { return ops::leading_mean(in[0], 2); }, {x.clone()});
  check_gradients([](const Inputs& in) { return ops::leading_mean(in[0], 5); }, {x.clone()});
}

TEST(Index, LeadingValues) {
  const Tensor x = Tensor::from<float>({1, 3, 2}, std::vector<float>{0, 1, 2, 3, 40, 50});
  EXPECT_EQ(ops::leading_mean(x, 2).to_vector<float>(), (std::vector<float>{1, 2}));
  EXPECT_EQ(ops::leading_rows(x, 2).to_vector<float>(), (std::vector<float>{0, 1, 2, 3}));
  EXPECT_THROW(ops::leading_rows(x, 4), Error);
  EXPECT_THROW(ops::leading_mean(x, 0), Error);
}

}  // namespace
}  // namespace onpa
