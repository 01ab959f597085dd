// PaSST against the public implementation; tests/golden/make_passt.py made the values.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/loss.h"
#include "nn/passt.h"
#include "tensor/autograd.h"
#include "tensor/io/npy.h"
#include "tensor/ops/loss.h"
#include "tests/support/explain_golden.h"
#include "tests/support/gradcheck.h"
#include "tests/support/hash_fill.h"

namespace onpa::nn {
namespace {

Tensor golden(const std::string& name) {
  return io::read_npy(std::filesystem::path(ONPA_GOLDEN_DIR) / (name + ".npy"));
}

// Largest difference of features and logits (both have a spread near 1) from a golden array of
// (B, width + outputs).
double largest_difference(const Passt::Output& output, const Tensor& want) {
  const std::int64_t width = output.features.size(1), outputs = output.logits.size(1);
  EXPECT_EQ(want.shape(), (Shape{output.features.size(0), width + outputs}));
  const double* reference = want.data<double>();
  double worst = 0;
  for (std::int64_t b = 0; b < want.size(0); ++b) {
    for (std::int64_t i = 0; i < width + outputs; ++i) {
      const float got = i < width ? output.features.data<float>()[b * width + i]
                                  : output.logits.data<float>()[b * outputs + i - width];
      const double difference = std::abs(got - reference[b * (width + outputs) + i]);
      worst = std::max(worst, std::isfinite(got) ? difference : INFINITY);
    }
  }
  return worst;
}

struct Case {
  std::int64_t stride, depth, frames, table_t, batch;
  std::string name() const {
    return "passt_s" + std::to_string(stride) + "_d" + std::to_string(depth) + "_f" +
           std::to_string(frames);
  }
};

class PasstParity : public ::testing::TestWithParam<Case> {};

// float32 against float64 through 12 blocks; the public code's own float32 is off by 1e-5.
TEST_P(PasstParity, FeaturesAndLogitsEqualThePublicCode) {
  const Case& c = GetParam();
  PasstConfig config = PasstConfig::preset(c.depth == 7 ? "passt-l" : "passt-s");
  config.stride_f = config.stride_t = c.stride;
  config.table_t = c.table_t;
  Passt model(config);
  testing::hash_fill_parameters(model);
  const Tensor mel = testing::hash_tensor({c.batch, 128, c.frames}, "mel", 1.5f);
  NoGrad no_grad;
  EXPECT_LT(largest_difference(model.forward(mel), golden(c.name())), 1e-4);
}

// Under the address sanitizer the others would take minutes and show nothing more.
std::vector<Case> cases() {
  std::vector<Case> out = {{16, 7, 730, 62, 2}};
#ifndef __SANITIZE_ADDRESS__
  out.insert(out.end(), {{10, 12, 730, 99, 1},
                         {10, 12, 1000, 99, 1},
                         {10, 12, 3000, 300, 1},
                         {10, 7, 1000, 99, 1},
                         {16, 12, 1000, 62, 1},
                         {16, 7, 3000, 187, 1}});
#endif
  return out;
}
INSTANTIATE_TEST_SUITE_P(Sizes, PasstParity, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name(); });

PasstConfig tiny_config() {
  PasstConfig config = testing::explain_config();
  config.depth = 2;
  return config;
}

// Tokens and features so small that the epsilons of the norms (1e-6, head 1e-5) show. Features are
// near 1e-3, hence their own bound.
TEST(PasstSmallSignalParity, EpsilonsEqualThePublicCode) {
  Passt model(tiny_config());
  testing::hash_fill_parameters(model);
  for (const NamedParameter& parameter : model.parameters()) {
    const std::string& name = parameter.name;
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (has("_token") || has("_embed") || has("proj") || has("fc2") || has("norm.")) {
      for (float& value : parameter.tensor.span<float>()) value *= 1e-3f;
    }
  }
  NoGrad no_grad;
  const Passt::Output output = model.forward(testing::hash_tensor({2, 32, 50}, "mel", 1.5f));
  const Tensor want = golden("passt_small");
  EXPECT_LT(largest_difference(output, want), 1e-4);
  for (std::int64_t i = 0; i < 2 * 32; ++i) {
    EXPECT_NEAR(output.features.data<float>()[i], want.data<double>()[i / 32 * 37 + i % 32], 1e-7);
  }
}

// One training step with known patchout (2 columns, 1 row, 3 patches) and time offset.
TEST(PasstTrainingParity, LossAndEveryGradientEqualThePublicCode) {
  Passt model(tiny_config());
  testing::hash_fill_parameters(model);
  model.train();
  const Tensor mel = testing::hash_tensor({3, 32, 50}, "mel", 1.5f);
  const Tensor target = testing::hash_tensor({3, 5}, "target", 1.0f);
  const ops::PatchGrid grid{.stride_f = 6,
                            .stride_t = 6,
                            .grid_f = 5,
                            .grid_t = 8,
                            .time_offset = 1,
                            .keep = golden("passt_train_keep").to_vector<std::int32_t>()};
  const Tensor loss =
      ops::loss(model.forward_grid(mel, grid).logits, target, kernels::LossKind::kMse);
  backward(loss);

  const Tensor want = golden("passt_train");
  const float* reference = want.data<float>();
  EXPECT_NEAR(loss.item(), *reference++, 1e-4 * want.data<float>()[0]);
  for (const NamedParameter& parameter : model.parameters()) {
    SCOPED_TRACE(parameter.name);
    const std::int64_t n = parameter.tensor.numel();
    double worst = 0, largest = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const Tensor grad = parameter.tensor.grad();
      const double got = grad.defined() ? grad.data<float>()[i] : 0;
      worst = std::max(worst, std::isfinite(got) ? std::abs(got - reference[i]) : INFINITY);
      largest = std::max(largest, std::abs(static_cast<double>(reference[i])));
    }
    EXPECT_LE(worst, 1e-4 * largest);
    EXPECT_EQ(largest == 0, parameter.name.starts_with("head_dist"));
    reference += n;
  }
  EXPECT_EQ(reference, want.data<float>() + want.numel());
}

}  // namespace
}  // namespace onpa::nn
