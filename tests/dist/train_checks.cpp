#include "tests/dist/train_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "dist/ddp.h"
#include "dist/local.h"
#include "tensor/autograd.h"
#include "tensor/device_step.h"
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

// By the host, whatever the device of the parameters.
void update(FlatParams& params, std::vector<float>& momentum, double scale) {
  const Tensor data = params.data().to(DeviceKind::kCpu);
  const Tensor grad = params.grad().to(DType::kF32).to(DeviceKind::kCpu);
  const auto weights = data.span<float>();
  const auto gradient = grad.span<float>();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    momentum[i] = 0.9f * momentum[i] + static_cast<float>(scale) * gradient[i];
    weights[i] -= 0.05f * momentum[i];
  }
  params.data().copy_from(data);
  params.refresh_compute();
}

// The gradient of one batch, over all ranks. Its inputs stay in one place, for a graph.
class Step {
 public:
  Step(Comm& comm, const Training& training, Network& network, Ddp& ddp)
      : training_(training),
        network_(network),
        ddp_(ddp),
        rows_(kRows / comm.size() / training.micro_batches),
        first_(comm.rank() * training.micro_batches * rows_) {
    const std::int64_t mine = training.micro_batches * rows_;
    x_ = Tensor::empty({mine, kWidth}, training.dtype, training.device);
    y_ = Tensor::empty({mine, 1}, training.dtype, training.device);
    if (training.captured) step_ = std::make_unique<DeviceStep>([this] { run(); });
  }

  void operator()(const Tensor& x, const Tensor& y) {
    const std::int64_t mine = x_.size(0);
    x_.copy_from(x.slice(first_, first_ + mine).to(training_.device).to(training_.dtype));
    y_.copy_from(y.slice(first_, first_ + mine).to(training_.device).to(training_.dtype));
    step_ ? step_->run() : run();
  }

 private:
  void run() {
    network_.params.clear_grad();
    for (int part = 0; part < training_.micro_batches; ++part) {
      const std::int64_t begin = part * rows_;
      const Tensor loss =
          network_.loss(x_.slice(begin, begin + rows_), y_.slice(begin, begin + rows_));
      const bool last = part + 1 == training_.micro_batches;
      last ? ddp_.backward(loss) : backward(loss);
    }
    ddp_.wait();
  }

  const Training& training_;
  Network& network_;
  Ddp& ddp_;
  const std::int64_t rows_, first_;
  Tensor x_, y_;
  std::unique_ptr<DeviceStep> step_;
};

}  // namespace

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    most = std::isnan(difference) ? INFINITY : std::max(most, difference);
  }
  return most;
}

std::vector<float> train(Comm& comm, const Training& training) {
  Network network(static_cast<std::uint64_t>(100 * comm.rank() + 1));
  FlatParams& params = network.params;
  if (training.device == DeviceKind::kCuda) params.move_to(training.device, training.dtype);
  Ddp ddp(comm, params, {.first_bytes = 64, .bytes = training.bucket_bytes});
  ddp.broadcast();
  std::vector<float> momentum(static_cast<std::size_t>(params.numel()));
  Step step(comm, training, network, ddp);
  for (int i = 0; i < training.steps; ++i) {
    const auto seed = static_cast<std::uint64_t>(1000 + 2 * i);
    step(random_normal({kRows, kWidth}, seed, 1, DType::kF32),
         random_normal({kRows, 1}, seed + 1, 1, DType::kF32));
    update(params, momentum, 1.0 / (comm.size() * training.micro_batches));
  }
  return params.data().to(DeviceKind::kCpu).to_vector<float>();
}

std::vector<float> train_alone(const Training& training) {
  std::vector<float> weights;
  run_local(1, [&](Comm& one) { weights = train(one, training); });
  return weights;
}

void expect_same_on_all_ranks(Comm& comm, const std::vector<float>& weights) {
  const Tensor first = Tensor::from<float>({static_cast<std::int64_t>(weights.size())}, weights);
  comm.broadcast(first);
  EXPECT_EQ(first.to_vector<float>(), weights) << "rank " << comm.rank();
}

void check_training(Comm& comm) {
  const std::vector<float> alone = train_alone(), untrained = train_alone({.steps = 0});
  EXPECT_GT(largest_difference(alone, untrained), 0.05);
  for (const Training& training : {Training{}, Training{.micro_batches = 3},
                                   Training{.bucket_bytes = std::int64_t{1} << 20}}) {
    const std::vector<float> weights = train(comm, training);
    EXPECT_LE(largest_difference(weights, alone), 1e-6) << "rank " << comm.rank();
    expect_same_on_all_ranks(comm, weights);
  }
}

}  // namespace onpa::dist::testing
