// Fused dense training on the CPU and on the GPU (a simulated one where the build has no other)
// beside the same steps through autograd on the CPU.
#include "nn/dense_fused.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/ops/loss.h"
#include "tests/support/random_values.h"

namespace onpa::nn {
namespace {

constexpr std::int64_t kRows = 100, kBatch = 24, kInputs = 10;  // epochs of 4 batches and 4 rows
constexpr std::uint64_t kSeed = 3;
constexpr int kSteps = 20;

DenseConfig small_config() {
  DenseConfig config;
  config.inputs = kInputs;
  config.hidden = {33, 16};
  config.activation = kernels::Activation::kGelu;
  config.dropout = 0.1f;
  return config;
}
DenseFusedConfig fused_config(float clip_norm) {
  DenseFusedConfig config;
  config.optimizer.clip_norm = clip_norm;
  config.loss = kernels::LossKind::kHuber;
  config.huber_delta = 0.8f;
  config.batch_size = kBatch;
  config.steps_per_graph = 5;
  config.seed = kSeed;
  return config;
}

struct Data {
  std::vector<float> x, y;
  Tensor x_tensor() const { return Tensor::from<float>({kRows, kInputs}, x); }
  Tensor y_tensor() const { return Tensor::from<float>({kRows, 1}, y); }
};
Data make_data() {
  Data data{testing::normal_values<float>(kRows * kInputs, 1), {}};
  for (std::int64_t i = 0; i < kRows; ++i) {
    const float* row = data.x.data() + i * kInputs;
    data.y.push_back(std::tanh(row[0] - 0.5f * row[1]) + 0.25f * row[2] * row[3]);
  }
  return data;
}
float rate_of(int step) {
  return 0.01f / static_cast<float>(1 + step % 7);
}

struct Curve {
  std::vector<double> loss, grad_norm;  // of each step
  std::vector<float> param;
};

// The rows of one batch, in the order that fused steps take them.
Tensor rows_of(const std::vector<float>& from, std::int64_t width, std::uint64_t epoch,
               std::int64_t position) {
  const ShuffledOrder order(kSeed, epoch, kRows);
  std::vector<float> out;
  const std::int64_t count = std::min(kBatch, kRows - position);
  for (std::int64_t i = 0; i < count; ++i) {
    const float* row = from.data() + order(static_cast<std::uint32_t>(position + i)) * width;
    out.insert(out.end(), row, row + width);
  }
  return Tensor::from<float>({count, width}, out);
}

Curve train_on_cpu(float clip_norm) {
  const DenseFusedConfig config = fused_config(clip_norm);
  const Data data = make_data();
  Dense model(small_config());
  model.initialize(kSeed);
  model.train();
  FlatParams params(model.parameter_slots());
  Optimizer optimizer(config.optimizer, params);
  Curve curve;
  std::uint64_t epoch = 0;
  std::int64_t position = 0;
  for (int step = 0; step < kSteps; ++step) {
    params.clear_grad();
    const Tensor x = rows_of(data.x, kInputs, epoch, position),
                 y = rows_of(data.y, 1, epoch, position);
    const Tensor loss = ops::loss(model.forward(x, kSeed, static_cast<std::uint64_t>(step)), y,
                                  config.loss, config.huber_delta);
    backward(loss);
    params.finish_grad();
    curve.loss.push_back(loss.item());
    curve.grad_norm.push_back(optimizer.step(rate_of(step)));
    position += x.size(0);
    if (position == kRows) position = 0, ++epoch;
  }
  curve.param = params.data().to_vector<float>();
  return curve;
}

// A model with what trains it.
struct Trained {
  Trained(DeviceKind device, const DenseFusedConfig& config, const Data& data)
      : model(small_config()),
        params((model.initialize(kSeed), model.parameter_slots())),
        optimizer(config.optimizer, params) {
    params.move_to(device);
    optimizer.move_to(device);
    fused.emplace(model.config(), config, params, optimizer, data.x_tensor(), data.y_tensor());
  }
  void queue(int first, int count) {
    std::vector<float> rates;
    for (int i = 0; i < count; ++i) rates.push_back(rate_of(first + i));
    fused->queue(rates);
  }
  std::vector<float> param() const { return params.data().to(DeviceKind::kCpu).to_vector<float>(); }

  Dense model;
  FlatParams params;
  Optimizer optimizer;
  std::optional<DenseFused> fused;
};

class DenseFusedOn : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::kCuda && !has_cuda_backend()) {
      GTEST_SKIP() << "this build has no CUDA";
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, DenseFusedOn,
                         ::testing::Values(DeviceKind::kCpu, DeviceKind::kCuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::kCpu ? "Cpu" : "Gpu";
                         });

TEST_P(DenseFusedOn, FollowsAutogradOnTheCpu) {
  for (const float clip_norm : {0.0f, 0.2f}) {
    const Curve want = train_on_cpu(clip_norm);
    EXPECT_LT(want.loss[kSteps - 2], 0.8 * want.loss[0]) << "the steps learn nothing to compare";
    Trained trained(GetParam(), fused_config(clip_norm), make_data());
    // On the GPU: graphs that run plainly, are captured, are replayed.
    const std::vector<int> counts = {5, 5, 5, 3, 2};
    int first = 0;
    for (const int count : counts) trained.queue(first, count), first += count;
    ASSERT_EQ(first, kSteps);
    EXPECT_EQ(trained.fused->pending(), counts.size());
    std::size_t step = 0;
    for (const int count : counts) {
      const DenseFused::Result got = trained.fused->take();
      ASSERT_EQ(std::ssize(got.losses), count);
      ASSERT_EQ(std::ssize(got.grad_norms), GetParam() == DeviceKind::kCpu ? count : 0);
      for (std::size_t i = 0; i < got.grad_norms.size(); ++i) {
        EXPECT_NEAR(got.grad_norms[i], want.grad_norm[step + i], 1e-4 * want.grad_norm[step + i]);
      }
      // As in DeviceStep's test: float sums in another order.
      for (const float loss : got.losses) {
        EXPECT_NEAR(loss, want.loss[step], 1e-5 * (1 + want.loss[step])) << step;
        ++step;
      }
      EXPECT_EQ(trained.optimizer.step_count(), static_cast<std::int64_t>(step));
      EXPECT_EQ(got.epoch, step / 5);
      EXPECT_EQ(got.position, static_cast<std::int64_t>(step % 5) * kBatch);
    }
    const std::vector<float> param = trained.param();
    for (std::size_t i = 0; i < param.size(); ++i) ASSERT_NEAR(param[i], want.param[i], 2e-4) << i;
  }
}

TEST_P(DenseFusedOn, GoesOnWhereItIsSent) {
  const DenseFusedConfig config = fused_config(0);
  Trained whole(GetParam(), config, make_data()), parts(GetParam(), config, make_data());
  whole.queue(0, 5);
  whole.queue(5, 4);
  while (whole.fused->pending() > 0) whole.fused->take();
  parts.queue(0, 3);
  const DenseFused::Result place = parts.fused->take();
  // Another object, with parameters and moments as they were saved.
  DenseFused resumed(parts.model.config(), config, parts.params, parts.optimizer,
                     make_data().x_tensor(), make_data().y_tensor());
  resumed.seek(place.epoch, place.position, 3);
  const std::vector<float> rates = {rate_of(3), rate_of(4), rate_of(5), rate_of(6)};
  resumed.queue(rates);
  resumed.take();
  resumed.queue(std::vector<float>{rate_of(7), rate_of(8)});
  resumed.take();
  EXPECT_EQ(parts.param(), whole.param());
  EXPECT_EQ(parts.optimizer.step_count(), 9);
}

TEST_P(DenseFusedOn, SeesParametersChangedFromOutside) {
  Trained a(GetParam(), fused_config(0), make_data());
  a.params.data().zero();
  a.fused->seek(0, 0, 0);
  a.queue(0, 1);
  const Data data = make_data();
  double want = 0;
  const ShuffledOrder order(kSeed, 0, kRows);
  for (std::uint32_t i = 0; i < kBatch; ++i) {
    const double size = std::abs(static_cast<double>(data.y[order(i)])), delta = 0.8f;
    want += size > delta ? delta * (size - delta / 2) : size * size / 2;
  }
  EXPECT_NEAR(a.fused->take().losses.at(0), want / kBatch, 1e-6);
}

TEST_P(DenseFusedOn, LeavesOutStepsThatAreNotFinite) {
  Data data = make_data();
  data.y[7] = NAN;
  Trained trained(GetParam(), fused_config(0), data);
  trained.queue(0, 5);
  const DenseFused::Result epoch = trained.fused->take();
  // Row 7 is in one batch of the epoch.
  const ShuffledOrder order(kSeed, 0, kRows);
  std::uint32_t place = 0;
  while (order(place) != 7) ++place;
  for (std::size_t step = 0; step < 5; ++step) {
    EXPECT_EQ(std::isfinite(epoch.losses.at(step)), step != place / kBatch) << step;
  }
  EXPECT_EQ(trained.optimizer.step_count(), 4);
  EXPECT_EQ(epoch.epoch, 1u);
  for (const float v : trained.param()) ASSERT_TRUE(std::isfinite(v));
}

TEST(DenseFused, SaysWhatItCannotDo) {
  const auto refused = [](auto&& change, const std::string& word) {
    DenseConfig model = small_config();
    DenseFusedConfig config = fused_config(0);
    change(model, config);
    EXPECT_NE(DenseFused::problem(model, config).find(word), std::string::npos)
        << DenseFused::problem(model, config);
  };
  EXPECT_EQ(DenseFused::problem(small_config(), fused_config(0)), "");
  refused([](auto& m, auto&) { m.hidden = {512, 513}; }, "513");
  refused([](auto& m, auto&) { m.hidden.assign(8, 4); }, "9");
  refused([](auto& m, auto&) { m.inputs = 600; }, "600");
  refused([](auto& m, auto&) { m.outputs = 2; }, "one output");
  refused([](auto&, auto& c) { c.optimizer.kind = "sgd"; }, "sgd");
  refused([](auto&, auto& c) { c.loss = kernels::LossKind::kBceWithLogits; }, "regression");
}

}  // namespace
}  // namespace onpa::nn
