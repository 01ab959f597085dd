// Attention worked out again must be the attention that the blocks used.
#include "nn/attention_maps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tensor/autograd.h"
#include "tensor/io/safetensors.h"
#include "tensor/ops/attention.h"
#include "tests/support/explain_golden.h"
#include "tests/support/hash_fill.h"

namespace onpa::nn {
namespace {

using testing::explain_config;
using testing::largest_difference;

struct Case {
  std::int64_t tokens, heads, width;
};

// One token, a prime, over a block of rows with an odd tail; heads of 1 and of several values.
class AttentionRows : public ::testing::TestWithParam<Case> {
 protected:
  AttentionRows()
      : qkv_(testing::hash_tensor({1, GetParam().tokens, 3 * GetParam().width}, "qkv", 3)) {}
  Tensor head(std::int64_t h) const {
    return attention_rows(qkv_, GetParam().heads, h, 0, GetParam().tokens);
  }
  Tensor qkv_;
};

TEST_P(AttentionRows, SumToOne) {
  for (std::int64_t h = 0; h < GetParam().heads; ++h) {
    const Tensor rows = head(h);
    for (std::int64_t i = 0; i < rows.size(0); ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < rows.size(1); ++j) {
        const float p = rows.data<float>()[i * rows.size(1) + j];
        EXPECT_GE(p, 0);
        sum += static_cast<double>(p);
      }
      EXPECT_NEAR(sum, 1, 1e-6);
    }
  }
}

TEST_P(AttentionRows, TimesValuesAreTheAttentionThatStoresNone) {
  const auto [tokens, heads, width] = GetParam();
  const std::int64_t part = width / heads;
  const NoGrad no_grad;
  const Tensor want = ops::attention(qkv_, heads);
  const float* qkv = qkv_.data<float>();
  for (std::int64_t h = 0; h < heads; ++h) {
    const Tensor rows = head(h);
    for (std::int64_t i = 0; i < tokens; ++i) {
      for (std::int64_t d = 0; d < part; ++d) {
        double sum = 0;
        for (std::int64_t j = 0; j < tokens; ++j) {
          sum += static_cast<double>(rows.data<float>()[i * tokens + j]) *
                 static_cast<double>(qkv[j * 3 * width + 2 * width + h * part + d]);
        }
        ASSERT_NEAR(sum, want.data<float>()[i * width + h * part + d], 1e-5);
      }
    }
  }
}

TEST_P(AttentionRows, MeanProductIsThatOfTheWholeMatrix) {
  const auto [tokens, heads, width] = GetParam();
  const Tensor rows = testing::hash_tensor({2, tokens}, "rows", 1);
  const Tensor got = times_mean_attention(rows, qkv_, heads);
  std::vector<double> want(static_cast<std::size_t>(2 * tokens));
  for (std::int64_t h = 0; h < heads; ++h) {
    const Tensor matrix = head(h);
    for (std::int64_t r = 0; r < 2; ++r) {
      for (std::int64_t i = 0; i < tokens; ++i) {
        for (std::int64_t j = 0; j < tokens; ++j) {
          want[static_cast<std::size_t>(r * tokens + j)] +=
              static_cast<double>(rows.data<float>()[r * tokens + i]) *
              static_cast<double>(matrix.data<float>()[i * tokens + j]) /
              static_cast<double>(heads);
        }
      }
    }
  }
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    ASSERT_NEAR(got.data<float>()[i], want[static_cast<std::size_t>(i)], 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, AttentionRows,
                         ::testing::Values(Case{1, 2, 8}, Case{13, 3, 3}, Case{259, 2, 32}));

class AttentionMaps : public ::testing::Test {
 protected:
  AttentionMaps()
      : model_(explain_config()),
        want_(
            io::read_safetensors(std::filesystem::path(ONPA_GOLDEN_DIR) / "explain.safetensors")) {
    testing::hash_fill_parameters(model_);
    const NoGrad no_grad;
    tokens_ = model_.tokens(testing::hash_tensor({1, 32, 53}, "mel", 1.5f), model_.whole_grid(53));
  }
  Passt model_;
  Tensor tokens_;
  io::SafetensorsFile want_;
};

TEST_F(AttentionMaps, RolloutEqualsThePublicModels) {
  EXPECT_LT(largest_difference(attention_rollout(model_, tokens_), want_.find("rollout")), 1e-6);
}

TEST_F(AttentionMaps, LayersAndHeadsEqualThePublicModels) {
  EXPECT_LT(largest_difference(prefix_attention(model_, tokens_, 1), want_.find("mean_1")), 1e-6);
  EXPECT_LT(largest_difference(prefix_attention(model_, tokens_, 2, 1), want_.find("head_2_1")),
            1e-6);
}

TEST_F(AttentionMaps, LayersAndHeadsThatAreNotThereAreRefused) {
  EXPECT_THROW(prefix_attention(model_, tokens_, 3), Error);
  EXPECT_THROW(prefix_attention(model_, tokens_, -1), Error);
  EXPECT_THROW(prefix_attention(model_, tokens_, 0, explain_config().heads), Error);
  EXPECT_THROW(prefix_attention(model_, tokens_, 0, -2), Error);
  const Tensor qkv = testing::hash_tensor({1, 5, 24}, "qkv", 1);
  EXPECT_THROW(attention_rows(qkv, 2, 2, 0, 5), Error);
  EXPECT_THROW(attention_rows(qkv, 2, 0, 1, 5), Error);
  EXPECT_THROW(attention_rows(qkv, 5, 0, 0, 5), Error);
}

TEST_F(AttentionMaps, TokensAndTheRestAreTheWholeModel) {
  const NoGrad no_grad;
  const Tensor mel = testing::hash_tensor({1, 32, 53}, "mel", 1.5f);
  EXPECT_EQ(model_.forward_tokens(tokens_).logits.to_vector<float>(),
            model_.forward(mel).logits.to_vector<float>());
  std::vector<Tensor> inputs;
  model_.forward_tokens(tokens_, &inputs);
  ASSERT_EQ(inputs.size(), 3u);
  EXPECT_EQ(inputs[0].to_vector<float>(), tokens_.to_vector<float>());
  EXPECT_EQ(inputs[1].to_vector<float>(), model_.block(0).forward(tokens_).to_vector<float>());
}

}  // namespace
}  // namespace onpa::nn
