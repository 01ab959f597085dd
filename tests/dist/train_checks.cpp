#include "tests/dist/train_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "dist/ddp.h"
#include "dist/local.h"
#include "tensor/autograd.h"
#include "tensor/ops/linear.h"
#include "tensor/ops/norm.h"
#include "tensor/recompute.h"
#include "tests/support/gradcheck.h"

namespace onpa::dist::testing {
namespace {

using onpa::testing::random_normal;

constexpr std::int64_t kRows = 72, kWidth = 13, kHidden = 17;

// A hidden layer whose weight is used twice, once in a recomputed region.
struct Network {
  explicit Network(std::uint64_t seed)
      : w1(made({kHidden, kWidth}, seed)),
        b1(made({kHidden}, seed + 1)),
        gain(made({kHidden}, seed + 2)),
        shift(made({kHidden}, seed + 3)),
        w2(made({kHidden, kHidden}, seed + 4)),
        w3(made({1, kHidden}, seed + 5)),
        params({{"w1", &w1},
                {"b1", &b1},
                {"gain", &gain},
                {"shift", &shift},
                {"w2", &w2},
                {"w3", &w3}}) {}

  static Tensor made(const Shape& shape, std::uint64_t seed) {
    return random_normal(shape, seed, 0.3, DType::kF32).set_requires_grad();
  }

  Tensor loss(const Tensor& x, const Tensor& y) const {
    Tensor h = ops::linear(x, w1, b1, kernels::Activation::kGelu);
    h = recompute(
        {h}, [this](const Tensors& in) { return Tensors{ops::layer_norm(in[0], gain, shift)}; },
        [this](const Tensors&, const Tensors& normed) {
          return ops::linear(normed[0], w2, {}, kernels::Activation::kGelu);
        });
    h = ops::linear(h, w2, {}, kernels::Activation::kGelu);
    const Tensor error = ops::sub(ops::linear(h, w3), y);
    return ops::mean(ops::mul(error, error));
  }

  Tensor w1, b1, gain, shift, w2, w3;
  FlatParams params;
};

void update(const FlatParams& params, std::vector<float>& momentum, double scale) {
  const auto weights = params.data().span<float>();
  const auto gradient = params.grad().span<float>();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    momentum[i] = 0.9f * momentum[i] + static_cast<float>(scale) * gradient[i];
    weights[i] -= 0.05f * momentum[i];
  }
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return most;
}

}  // namespace

std::vector<float> train(Comm& comm, const Training& training) {
  Network network(static_cast<std::uint64_t>(100 * comm.rank() + 1));
  FlatParams& params = network.params;
  Ddp ddp(comm, params, {.first_bytes = 64, .bytes = training.bucket_bytes});
  ddp.broadcast();
  std::vector<float> momentum(static_cast<std::size_t>(params.numel()));
  const std::int64_t rows = kRows / comm.size() / training.micro_batches;
  for (int step = 0; step < training.steps; ++step) {
    const auto seed = static_cast<std::uint64_t>(1000 + 2 * step);
    const Tensor x = random_normal({kRows, kWidth}, seed, 1, DType::kF32);
    const Tensor y = random_normal({kRows, 1}, seed + 1, 1, DType::kF32);
    params.clear_grad();
    for (int part = 0; part < training.micro_batches; ++part) {
      const std::int64_t begin = (comm.rank() * training.micro_batches + part) * rows;
      const Tensor loss = network.loss(x.slice(begin, begin + rows), y.slice(begin, begin + rows));
      const bool last = part + 1 == training.micro_batches;
      last ? ddp.backward(loss) : backward(loss);
    }
    ddp.wait();
    update(params, momentum, 1.0 / (comm.size() * training.micro_batches));
  }
  return params.data().to_vector<float>();
}

void check_training(Comm& comm) {
  std::vector<float> alone, untrained;
  run_local(1, [&](Comm& one) {
    alone = train(one, {});
    untrained = train(one, {.steps = 0});
  });
  EXPECT_GT(largest_difference(alone, untrained), 0.05);
  for (const Training& training : {Training{}, Training{.micro_batches = 3},
                                   Training{.bucket_bytes = std::int64_t{1} << 20}}) {
    const std::vector<float> weights = train(comm, training);
    EXPECT_LE(largest_difference(weights, alone), 1e-6) << "rank " << comm.rank();
    Tensor first = Tensor::from<float>({static_cast<std::int64_t>(weights.size())}, weights);
    comm.broadcast(first);
    EXPECT_EQ(first.to_vector<float>(), weights) << "rank " << comm.rank();
  }
}

}  // namespace onpa::dist::testing
