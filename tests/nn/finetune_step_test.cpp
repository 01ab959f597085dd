// Fine-tuning steps against PyTorch: another head, frozen parameters, a learning rate for each
// layer, given patchout. tests/golden/make_finetune_step.py made the values;
// tools/check_finetune.py runs the second test on a model of full size.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "nn/adapt.h"
#include "nn/finetune.h"
#include "nn/load.h"
#include "nn/optim.h"
#include "nn/passt_io.h"
#include "tensor/autograd.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"
#include "tests/support/hash_fill.h"

namespace onpa::nn {
namespace {

using testing::hash_fill;
using testing::hash_fill_parameters;
using testing::hash_tensor;

struct Case {
  PasstConfig found;  // of `weights`; the model has `outputs` others
  io::NamedTensors weights, head;
  std::int64_t outputs = 0;
  std::string frozen;
  double layer_decay = 0.6;
  std::vector<Tensor> mel, target;  // of each step
  std::vector<std::vector<std::int32_t>> keep;
};

// As in the golden script.
const OptimizerConfig kOptimizer = {.eps = 1e-3f, .weight_decay = 0.05f};
constexpr float kRate = 0.01f;

struct Result {
  std::vector<double> losses;
  std::map<std::string, std::vector<double>> updates;
};

Result finetune(const Case& c) {
  PasstConfig want = c.found;
  want.outputs = c.outputs;
  want.head_dist = false;
  Passt model(want);
  const Adapted adapted = adapt_weights(c.weights, c.found, want);
  EXPECT_EQ(load_parameters(model, adapted.tensors, false).missing,
            (std::vector<std::string>{"head.1.weight", "head.1.bias"}));
  load_parameters(model, c.head, false);
  model.train();
  freeze(model, c.frozen);
  FlatParams params(model.parameter_slots());
  const Tensor before = params.data().clone();
  OptimizerConfig config = kOptimizer;
  config.rate_scale = [&](const std::string& name) {
    return layer_rate(name, want.depth, c.layer_decay);
  };
  Optimizer optimizer(config, params);
  Result out;
  for (std::size_t step = 0; step < c.mel.size(); ++step) {
    params.clear_grad();
    const ops::PatchGrid grid{.stride_f = want.stride_f,
                              .stride_t = want.stride_t,
                              .grid_f = want.grid_f(),
                              .grid_t = want.grid_t(c.mel[step].size(2)),
                              .keep = c.keep[step]};
    const Tensor loss = ops::loss(model.forward_grid(c.mel[step], grid).logits, c.target[step],
                                  kernels::LossKind::kMse);
    out.losses.push_back(loss.item());
    backward(loss);
    params.finish_grad();
    optimizer.step(kRate);
  }
  for (const FlatSlot& slot : params.slots()) {
    const Tensor now = params.view(params.data(), slot), then = params.view(before, slot);
    std::vector<double>& update = out.updates[slot.name];
    for (std::int64_t i = 0; i < slot.numel; ++i) {
      update.push_back(static_cast<double>(now.data<float>()[i]) -
                       static_cast<double>(then.data<float>()[i]));
    }
  }
  return out;
}

std::vector<std::vector<std::int32_t>> rows_of(const Tensor& keep) {
  std::vector<std::vector<std::int32_t>> out;
  for (std::int64_t step = 0; step < keep.size(0); ++step) {
    out.push_back(keep.slice(step, step + 1).to_vector<std::int32_t>());
  }
  return out;
}

TEST(FinetuneStep, LossesAndEveryUpdateEqualPyTorchs) {
  const io::SafetensorsFile want =
      io::read_safetensors(std::string(ONPA_GOLDEN_DIR) + "/finetune_step.safetensors");
  Case c;
  c.found.mels = 32;
  c.found.patch_f = c.found.patch_t = 8;
  c.found.stride_f = c.found.stride_t = 6;
  c.found.table_t = 8;
  c.found.width = 32;
  c.found.heads = 4;
  c.found.depth = 2;
  c.found.mlp = 128;
  c.found.outputs = 5;
  Passt old(c.found);
  hash_fill_parameters(old);
  for (const NamedParameter& p : old.parameters())
    c.weights.emplace_back(p.name, p.tensor.detach());
  c.outputs = 2;
  c.head = {{"head.1.weight", Tensor::empty({2, 32})}, {"head.1.bias", Tensor::empty({2})}};
  hash_fill(c.head[0].second, "new.head.1.weight", 0, static_cast<float>(1 / std::sqrt(32.0)));
  hash_fill(c.head[1].second, "new.head.1.bias", 0, 0.1f);
  c.frozen = "patch_embed,blocks.0.mlp";
  c.keep = rows_of(want.find("keep"));
  for (std::size_t step = 0; step < c.keep.size(); ++step) {
    c.mel.push_back(hash_tensor({3, 32, 50}, "mel" + std::to_string(step), 1.5f));
    c.target.push_back(hash_tensor({3, 2}, "target" + std::to_string(step), 1));
  }
  const Result got = finetune(c);

  ASSERT_EQ(got.losses.size(), 3u);
  for (std::size_t step = 0; step < 3; ++step) {
    const double loss = want.find("losses").data<double>()[step];
    EXPECT_NEAR(got.losses[step], loss, 1e-4 * loss) << "step " << step;
  }
  for (const auto& [name, update] : got.updates) {
    const Tensor reference = want.find(name);
    ASSERT_TRUE(reference.defined()) << name;
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < update.size(); ++i) {
      const auto r = static_cast<double>(reference.data<float>()[i]);
      worst = std::max(worst, std::isfinite(update[i]) ? std::abs(update[i] - r) : INFINITY);
      largest = std::max(largest, std::abs(r));
    }
    EXPECT_LE(worst, 1e-4 * largest) << name;
    const bool frozen = name.starts_with("patch_embed.") || name.starts_with("blocks.0.mlp.");
    EXPECT_EQ(largest == 0, frozen) << name;
  }
}

// Steps of a model that is given in a folder, whose updates are left there to be compared.
TEST(FinetuneStep, OfAGivenModel) {
  const char* folder = std::getenv("ONPA_FINETUNE_CASE");
  if (folder == nullptr) GTEST_SKIP() << "ONPA_FINETUNE_CASE names no folder";
  const io::SafetensorsFile given = io::read_safetensors(std::string(folder) + "/case.safetensors");
  Case c;
  const Tensor mel = given.find("mel"), target = given.find("target");
  c.keep = rows_of(given.find("keep"));
  for (std::int64_t step = 0; step < mel.size(0); ++step) {
    c.mel.push_back(mel.slice(step, step + 1).view({mel.size(1), mel.size(2), mel.size(3)}));
    c.target.push_back(target.slice(step, step + 1).view({target.size(1), target.size(2)}));
  }
  c.head = {{"head.1.weight", given.find("new.head.1.weight")},
            {"head.1.bias", given.find("new.head.1.bias")}};
  c.outputs = target.size(2);
  c.frozen = given.metadata.at("frozen");
  c.layer_decay = std::stod(given.metadata.at("layer_decay"));
  std::map<std::string, Shape> shapes;
  for (const auto& [name, tensor] : given.tensors) {
    if (name == "mel" || name == "target" || name == "keep" || name.starts_with("new.")) continue;
    c.weights.emplace_back(name, tensor);
    shapes[name] = tensor.shape();
  }
  c.found = infer_passt_config(shapes);
  const Result got = finetune(c);
  io::NamedTensors out = {
      {"losses", Tensor::from<double>({static_cast<std::int64_t>(got.losses.size())}, got.losses)}};
  for (const auto& [name, update] : got.updates) {
    const Tensor values = Tensor::empty({static_cast<std::int64_t>(update.size())});
    std::transform(update.begin(), update.end(), values.data<float>(),
                   [](double u) { return static_cast<float>(u); });
    out.emplace_back(name, values);
  }
  io::write_safetensors(std::string(folder) + "/updates.safetensors", out);
}

}  // namespace
}  // namespace onpa::nn
