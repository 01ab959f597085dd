#include "tensor/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tensor/storage.h"
#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::difference;
using testing::random_normal;

// softmax(q k^T / sqrt(D)) v with every score written out.
Tensor naive_attention(const Tensor& qkv, std::int64_t heads, std::int64_t queries) {
  const std::int64_t batch = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3;
  const std::int64_t dim = width / heads;
  const auto at = [&](std::int64_t b, std::int64_t n, std::int64_t part, std::int64_t c) {
    return qkv.span<double>()[((b * tokens + n) * 3 + part) * width + c];
  };
  Tensor y = Tensor::zeros({batch, queries, width}, DType::kF64);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < queries; ++i) {
        std::vector<double> p(static_cast<std::size_t>(tokens));
        double sum = 0;
        for (std::int64_t j = 0; j < tokens; ++j) {
          double score = 0;
          for (std::int64_t c = h * dim; c < (h + 1) * dim; ++c) {
            score += at(b, i, 0, c) * at(b, j, 1, c);
          }
          sum += p[j] = std::exp(score / std::sqrt(static_cast<double>(dim)));
        }
        for (std::int64_t j = 0; j < tokens; ++j) {
          for (std::int64_t c = h * dim; c < (h + 1) * dim; ++c) {
            y.span<double>()[(b * queries + i) * width + c] += p[j] / sum * at(b, j, 2, c);
          }
        }
      }
    }
  }
  return y;
}

TEST(AttentionOp, EqualsTheNaiveSoftmax) {
  const Tensor qkv = random_normal({2, 9, 3 * 8}, 1);
  for (const std::int64_t heads : {1, 2, 8}) {
    // The scale reaches the kernel as float: relative 6e-8 of scores of a few units.
    EXPECT_LT(difference(ops::attention(qkv, heads), naive_attention(qkv, heads, 9)).relative(),
              1e-6);
    EXPECT_LT(difference(ops::attention(qkv, heads, 2), naive_attention(qkv, heads, 2)).relative(),
              1e-6);
  }
}

TEST(AttentionOp, Gradients) {
  struct Case {
    std::int64_t batch, tokens, heads, dim, queries;
  };
  for (const Case& s :
       {Case{2, 5, 2, 4, 0}, Case{1, 1, 1, 3, 0}, Case{2, 7, 3, 2, 2}, Case{1, 11, 1, 8, 1}}) {
    SCOPED_TRACE(::testing::Message() << s.tokens << " tokens, " << s.queries << " queries");
    check_gradients(
        [&](const std::vector<Tensor>& in) { return ops::attention(in[0], s.heads, s.queries); },
        {random_normal({s.batch, s.tokens, 3 * s.heads * s.dim}, 1)});
  }
}

TEST(AttentionOp, ShapeAndDtypeOfTheResult) {
  const Tensor y = ops::attention(random_normal({3, 6, 24}, 1, 1, DType::kF32), 2, 4);
  EXPECT_EQ(y.shape(), (Shape{3, 4, 8}));
  EXPECT_EQ(y.dtype(), DType::kF32);
}

// Peak memory of a forward and backward pass at N and 4 N: a stored N x N matrix would be 16 MB at
// N = 2048 and heads = 1, and make the ratio approach 16.
TEST(AttentionOp, MemoryGrowsLinearlyWithTokens) {
  const auto peak = [](std::int64_t tokens) {
    Tensor qkv = random_normal({1, tokens, 3 * 8}, 1, 1, DType::kF32);
    qkv.set_requires_grad();
    reset_peak_memory();
    const std::size_t before = memory_stats().live_bytes;
    backward(ops::sum(ops::attention(qkv, 1)));
    return memory_stats().peak_bytes - before;
  };
  const std::size_t small = peak(512), large = peak(2048);
  EXPECT_LT(static_cast<double>(large), 4.5 * static_cast<double>(small));
}

TEST(AttentionOp, BadShapesAreNamed) {
  try {
    ops::attention(Tensor::zeros({2, 4, 20}), 2);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("attention: qkv has shape (2, 4, 20)"), std::string::npos)
        << e.what();
  }
  EXPECT_THROW(ops::attention(Tensor::zeros({4, 24}), 2), Error);
  EXPECT_THROW(ops::attention(Tensor::zeros({1, 4, 24}), 0), Error);
  EXPECT_THROW(ops::attention(Tensor::zeros({1, 4, 24}), 2, 5), Error);
  EXPECT_THROW(ops::attention(Tensor::zeros({1, 0, 24}), 2), Error);
  EXPECT_THROW(ops::attention({}, 2), Error);
}

}  // namespace
}  // namespace onpa
