#include "tensor/recompute.h"

#include <gtest/gtest.h>

#include "kernels/philox.h"
#include "tensor/device.h"
#include "tensor/memory_plan.h"
#include "tensor/ops/activation.h"
#include "tensor/ops/linear.h"
#include "tensor/ops/norm.h"
#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::random_normal;

constexpr std::int64_t kRows = 5, kWidth = 12, kHidden = 20;

// A residual layer with all that a block has: a norm, a wide hidden layer, dropout.
struct Layer {
  explicit Layer(DType dtype, DeviceKind device = DeviceKind::kCpu) {
    const auto made = [&](const Shape& shape, std::uint64_t seed) {
      return random_normal(shape, seed, 0.5, DType::kF64).to(dtype).to(device).set_requires_grad();
    };
    gain = made({kWidth}, 1);
    shift = made({kWidth}, 2);
    w1 = made({kHidden, kWidth}, 3);
    b1 = made({kHidden}, 4);
    w2 = made({kWidth, kHidden}, 5);
    b2 = made({kWidth}, 6);
  }
  Tensor hidden(const Tensor& x) const {
    const Tensor wide =
        ops::linear(ops::layer_norm(x, gain, shift), w1, b1, kernels::Activation::kGelu);
    return ops::dropout(wide, 0.4f, {.seed = 7, .stream = kStreamTest, .step = 3});
  }
  Tensor last(const Tensor& hidden, const Tensor& x) const {
    return ops::linear(hidden, w2, b2, kernels::Activation::kNone, x);
  }
  Tensor plain(const Tensor& x) const { return last(hidden(x), x); }
  Tensor recomputed(const Tensor& x) const {
    return recompute(
        {x}, [this](const Tensors& in) { return Tensors{hidden(in[0])}; },
        [this](const Tensors& in, const Tensors& made) { return last(made[0], in[0]); });
  }
  Tensors parameters() const { return {gain, shift, w1, b1, w2, b2}; }

  Tensor gain, shift, w1, b1, w2, b2;
};

Tensors one(const Tensor& x) {
  return {x};
}

TEST(Recompute, GradientsAgreeWithCentralDifferences) {
  const Layer layer(DType::kF64);
  Tensors inputs = layer.parameters();
  inputs.push_back(random_normal({kRows, kWidth}, 9));
  check_gradients([&](const Tensors& in) { return layer.recomputed(in.back()); }, inputs);
}

// Bits, also of what is added to gradients that are there: in x, which two layers and a sum share,
// and in the parameters, which both layers and both passes share.
TEST(Recompute, BitsOfTheGradientsStay) {
  const auto gradients = [](bool recomputed) {
    const Layer layer(DType::kF32);
    Tensor x = random_normal({kRows, kWidth}, 9, 1, DType::kF32).set_requires_grad();
    for (int pass = 0; pass < 2; ++pass) {
      Tensor y = ops::scale(x, 0.7);
      for (int i = 0; i < 2; ++i) {
        const Tensor next = recomputed ? layer.recomputed(y) : layer.plain(y);
        y = ops::add(next, ops::mul(y, x));
      }
      backward(ops::mean(ops::mul(y, y)));
    }
    std::vector<std::vector<float>> out = {x.grad().to_vector<float>()};
    for (const Tensor& p : layer.parameters()) out.push_back(p.grad().to_vector<float>());
    return out;
  };
  EXPECT_EQ(gradients(true), gradients(false));
}

// Each leaf is complete once, though two layers, each with two walks of its own, and a norm
// outside of them use it.
TEST(Recompute, LeavesAreCompleteWhenTheLastRegionThatUsesThemHasRun) {
  const Layer layer(DType::kF32);
  Tensors leaves = layer.parameters();
  leaves.push_back(random_normal({kRows, kWidth}, 9, 1, DType::kF32).set_requires_grad());
  const Tensor& x = leaves.back();
  const Tensor y =
      ops::add(layer.recomputed(layer.recomputed(x)), ops::layer_norm(x, layer.gain, layer.shift));
  std::vector<std::vector<float>> heard(leaves.size());
  std::vector<int> times(leaves.size());
  {
    const LeafGradListener listener([&](const detail::GradNode* node) {
      for (std::size_t i = 0; i < leaves.size(); ++i) {
        if (leaves[i].node().get() != node) continue;
        heard[i] = leaves[i].grad().to_vector<float>();
        ++times[i];
      }
    });
    backward(ops::mean(ops::mul(y, y)));
  }
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_EQ(times[i], 1) << i;
    EXPECT_EQ(heard[i], leaves[i].grad().to_vector<float>()) << i;
  }
}

TEST(Recompute, ParametersGetGradientsThoughTheInputWantsNone) {
  const Layer layer(DType::kF32), same(DType::kF32);
  const Tensor x = random_normal({kRows, kWidth}, 9, 1, DType::kF32);
  backward(ops::sum(layer.recomputed(x)));
  backward(ops::sum(same.plain(x)));
  EXPECT_FALSE(x.grad().defined());
  for (std::size_t i = 0; i < layer.parameters().size(); ++i) {
    EXPECT_EQ(layer.parameters()[i].grad().to_vector<float>(),
              same.parameters()[i].grad().to_vector<float>())
        << i;
  }
}

TEST(Recompute, ATensorGivenTwiceAndOneThatPassesThrough) {
  check_gradients(
      [](const Tensors& in) {
        return recompute(
            {in[0], in[1], in[0]},
            [](const Tensors& x) {
              return Tensors{ops::mul(x[0], x[1]), x[2], ops::gelu(x[1])};
            },
            [](const Tensors& x, const Tensors& made) {
              return ops::add(ops::mul(made[0], made[1]), ops::mul(made[2], x[0]));
            });
      },
      {random_normal({3, 4}, 1), random_normal({3, 4}, 2)});
}

TEST(Recompute, Nests) {
  check_gradients(
      [](const Tensors& in) {
        const auto square = [](const Tensor& x) {
          return recompute(
              {x}, [](const Tensors& y) { return one(ops::gelu(y[0])); },
              [](const Tensors&, const Tensors& made) { return ops::mul(made[0], made[0]); });
        };
        return recompute(
            {in[0]}, [&](const Tensors& x) { return one(square(square(x[0]))); },
            [square](const Tensors& x, const Tensors& made) {
              return ops::mul(square(made[0]), x[0]);
            });
      },
      {random_normal({7}, 1)});
}

// Layers one after another keep a row of x each, not the hidden layer's.
TEST(Recompute, MemoryBetweenThePassesIsFree) {
  constexpr std::int64_t kManyRows = 1000;
  constexpr int kLayers = 10;
  const auto bytes = [](bool recomputed) {
    const Layer layer(DType::kF32);
    Tensor x = random_normal({kManyRows, kWidth}, 9, 1, DType::kF32).set_requires_grad();
    const std::size_t before = memory_stats().live_bytes;
    reset_peak_memory();
    Tensor y = x;
    for (int i = 0; i < kLayers; ++i) y = recomputed ? layer.recomputed(y) : layer.plain(y);
    const std::size_t kept = memory_stats().live_bytes - before;
    Tensor loss = ops::mean(y);
    y = {};
    backward(loss);
    return std::pair{kept, memory_stats().peak_bytes - before};
  };
  constexpr std::size_t kRow = kManyRows * sizeof(float);
  const auto [plain_kept, plain_peak] = bytes(false);
  const auto [kept, peak] = bytes(true);
  EXPECT_GT(plain_kept, kLayers * kRow * (2 * kWidth + 3 * kHidden));
  EXPECT_LT(kept, kLayers * kRow * (kWidth + 2));
  // Of one layer: its values, their gradients, those of x and y.
  EXPECT_LT(peak, kLayers * kRow * (kWidth + 2) + kRow * (5 * kWidth + 5 * kHidden));
  EXPECT_LT(peak, plain_peak / 2);
}

TEST(Recompute, PlannedMemoryFallsToo) {
  if (!has_cuda_backend()) GTEST_SKIP() << "this build has no CUDA";
  const auto peak = [](bool recomputed) {
    return MemoryPlan::make([&] {
             const Layer layer(DType::kF32, DeviceKind::kCuda);
             Tensor y = Tensor::empty({1000, kWidth}, DType::kF32, DeviceKind::kCuda);
             for (int i = 0; i < 10; ++i) y = recomputed ? layer.recomputed(y) : layer.plain(y);
             const Tensor loss = ops::mean(y);
             y = {};
             backward(loss);
           })
        .peak_bytes();
  };
  EXPECT_LT(peak(true), peak(false) / 2);
}

TEST(Recompute, WithoutRecordingItIsTheFunctionAlone) {
  const Layer layer(DType::kF32);
  const Tensor x = random_normal({kRows, kWidth}, 9, 1, DType::kF32);
  const NoGrad no_grad;
  const Tensor y = layer.recomputed(x);
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(y.to_vector<float>(), layer.plain(x).to_vector<float>());
}

TEST(Recompute, WhatWouldBeWrongIsAnError) {
  const Tensor x = random_normal({4}, 1, 1, DType::kF32).set_requires_grad();
  const auto square = [](const Tensors&, const Tensors& made) {
    return ops::mul(made[0], made[0]);
  };
  Tensor escaped;
  const Tensor y = recompute(
      {x}, [](const Tensors& in) { return one(ops::gelu(in[0])); },
      [&](const Tensors& in, const Tensors& made) {
        escaped = made[0];
        return square(in, made);
      });
  EXPECT_THROW(escaped.to_vector<float>(), Error) << "a tensor that was dropped";

  const Tensor history = ops::gelu(x);
  EXPECT_THROW(backward(ops::sum(recompute(
                   {x}, [&](const Tensors& in) { return one(ops::mul(in[0], history)); }, square))),
               Error)
      << "a tensor that is not an input";

  int runs = 0;
  EXPECT_THROW(
      backward(ops::sum(recompute(
          {x},
          [&](const Tensors& in) { return one(++runs == 1 ? ops::gelu(in[0]) : ops::sum(in[0])); },
          square))),
      Error)
      << "another shape when run again";
}

}  // namespace
}  // namespace onpa
