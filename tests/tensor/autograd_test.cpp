#include "tensor/autograd.h"

#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "tensor/flat_params.h"
#include "tensor/ops/linear.h"
#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::random_normal;
using Inputs = std::vector<Tensor>;

TEST(Autograd, DiamondAddsBothPaths) {
  check_gradients(
      [](const Inputs& in) {
        const Tensor h = ops::mul(in[0], in[1]);
        return ops::add(ops::mul(h, h), ops::scale(h, 3));
      },
      {random_normal({2, 3}, 1), random_normal({2, 3}, 2)});
}

TEST(Autograd, ResidualChainSharesNoMemory) {
  // Two adds hand the same gradient to two inputs; if they shared it, accumulation would corrupt
  // both.
  check_gradients(
      [](const Inputs& in) {
        const Tensor s = ops::add(in[0], in[1]);
        const Tensor t = ops::add(s, in[0]);
        return ops::add(ops::mul(t, in[1]), s);
      },
      {random_normal({5}, 1), random_normal({5}, 2)});
}

TEST(Autograd, BranchWithoutGradientIsLeftAlone) {
  Tensor x = random_normal({3}, 1), y = random_normal({3}, 2);
  x.set_requires_grad();
  backward(ops::sum(ops::mul(x, y)));
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(y.grad().defined());
  EXPECT_EQ(x.grad().to_vector<double>(), y.to_vector<double>());
}

TEST(Autograd, TwoBackwardCallsAdd) {
  Tensor x = Tensor::full({2}, 3.0);
  x.set_requires_grad();
  backward(ops::sum(ops::mul(x, x)));
  backward(ops::sum(ops::mul(x, x)), 0.5);
  EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{9, 9}));
  x.clear_grad();
  EXPECT_FALSE(x.grad().defined());
  backward(ops::sum(x));
  EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{1, 1}));
}

TEST(Autograd, NoGradRecordsNothing) {
  Tensor x = Tensor::full({2}, 3.0);
  x.set_requires_grad();
  {
    NoGrad no_grad;
    EXPECT_FALSE(ops::mul(x, x).requires_grad());
  }
  EXPECT_TRUE(ops::mul(x, x).requires_grad());
  EXPECT_THROW(backward(ops::sum(x.detach())), Error);
  EXPECT_THROW(backward(ops::mul(x, x)), Error);
}

TEST(Autograd, TheGraphIsFreedAsItIsWalked) {
  Tensor x = Tensor::full({1000}, 1.0);
  x.set_requires_grad();
  const std::size_t before = memory_stats().live_bytes;
  Tensor y = x;
  for (int i = 0; i < 50; ++i) y = ops::mul(y, x);
  Tensor loss = ops::sum(y);
  y = {};
  backward(loss);
  // The gradient of x and the loss are all that is left.
  EXPECT_LE(memory_stats().live_bytes, before + 4096 + 256);
}

// What a listener hears: which leaf, and the values that its gradient had then.
struct Heard {
  explicit Heard(std::vector<Tensor> leaves) : leaves(std::move(leaves)) {}
  void operator()(const detail::GradNode* node) {
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      if (leaves[i].node().get() != node) continue;
      order.push_back(i);
      values.push_back(leaves[i].grad().to_vector<float>());
    }
  }
  std::vector<Tensor> leaves;
  std::vector<std::size_t> order;
  std::vector<std::vector<float>> values;
};

TEST(LeafGradListener, HearsOfEachLeafWhenItsGradientIsComplete) {
  const auto leaf = [](std::uint64_t seed) {
    return random_normal({4, 4}, seed, 1.0, DType::kF32).set_requires_grad();
  };
  const Tensor first = leaf(1), tied = leaf(2), last = leaf(3), unused = leaf(4);
  const Tensor x = random_normal({2, 4}, 5, 1.0, DType::kF32);
  const auto loss = [&] {
    Tensor h = ops::linear(x, first, {});
    h = ops::linear(h, tied, {});
    h = ops::linear(h, tied, {});
    return ops::sum(ops::linear(h, last, {}));
  };
  Heard heard({first, tied, last, unused});
  for (int pass = 1; pass <= 2; ++pass) {  // the second adds to the gradients of the first
    const LeafGradListener listener(std::ref(heard));
    backward(loss());
    EXPECT_EQ(heard.order, (std::vector<std::size_t>{2, 1, 0}));
    for (std::size_t i = 0; i < heard.order.size(); ++i) {
      EXPECT_EQ(heard.values[i], heard.leaves[heard.order[i]].grad().to_vector<float>()) << i;
    }
    EXPECT_THROW(LeafGradListener([](const detail::GradNode*) {}), Error);
    heard.order.clear();
    heard.values.clear();
  }
  backward(loss());
  EXPECT_TRUE(heard.order.empty());
}

TEST(FlatParams, OneBufferForValuesAndGradients) {
  Tensor w = random_normal({3, 5}, 1, 1.0, DType::kF32), b = Tensor::full({3}, 2.0),
         unused = Tensor::full({7}, 4.0);
  for (Tensor* t : {&w, &b, &unused}) t->set_requires_grad();
  const std::vector<float> w_values = w.to_vector<float>();
  FlatParams flat({{"w", &w}, {"b", &b}, {"unused", &unused}});
  EXPECT_EQ(w.to_vector<float>(), w_values);
  EXPECT_EQ(flat.slots()[1].offset % 16, 0);
  EXPECT_EQ(flat.data().data<float>() + flat.slots()[1].offset, b.data<float>());

  const Tensor x = random_normal({2, 5}, 2, 1.0, DType::kF32);
  flat.grad().copy_from(Tensor::full({flat.numel()}, 99.0));
  flat.clear_grad();
  backward(ops::sum(ops::linear(x, w, b)));
  flat.finish_grad();
  EXPECT_EQ(flat.view(flat.grad(), flat.slots()[1]).to_vector<float>(),
            (std::vector<float>{2, 2, 2}));
  EXPECT_EQ(flat.view(flat.grad(), flat.slots()[2]).to_vector<float>(), std::vector<float>(7, 0));
  EXPECT_EQ(w.grad().data<float>(), flat.grad().data<float>());
}

TEST(FlatParams, NamesAreUnique) {
  Tensor a = Tensor::zeros({1}), b = Tensor::zeros({1});
  EXPECT_THROW(FlatParams({{"x", &a}, {"x", &b}}), Error);
}

TEST(Tensor, ViewsAndSlicesShareMemory) {
  const Tensor x = Tensor::from<float>({3, 2}, std::vector<float>{0, 1, 2, 3, 4, 5});
  EXPECT_EQ(x.slice(1, 3).to_vector<float>(), (std::vector<float>{2, 3, 4, 5}));
  x.slice(1, 2).zero();
  EXPECT_EQ(x.view({6}).to_vector<float>(), (std::vector<float>{0, 1, 0, 0, 4, 5}));
  EXPECT_THROW(x.view({5}), Error);
  EXPECT_THROW(x.slice(2, 4), Error);
  EXPECT_THROW(x.data<double>(), Error);
  EXPECT_THROW((void)x.item(), Error);
  EXPECT_EQ(x.slice(3, 3).numel(), 0);
  EXPECT_EQ(x.to(DType::kF64).to_vector<double>()[5], 5.0);
}

}  // namespace
}  // namespace onpa
