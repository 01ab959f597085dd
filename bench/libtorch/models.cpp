#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <memory>
#include <vector>

#include "bench/libtorch/rows.h"

namespace onpa::vs {
namespace {

constexpr double kPasstRate = 1e-5, kDenseRate = 1e-3, kWeightDecay = 1e-4;
constexpr std::int64_t kDenseBatch = 512;
constexpr int kCheckedPasstSteps = 2, kCheckedDenseSteps = 20;
constexpr const char* kCheckedGradients[] = {"patch_embed.proj.weight", "blocks.5.attn.qkv.weight",
                                             "head.1.weight"};

// Everything in `in` but `data` is a parameter.
Inputs parameters_of(Inputs in, const std::vector<std::string>& data, bool training) {
  for (const std::string& name : data) in.erase(name);
  if (training) {
    for (auto& [name, tensor] : in) tensor = leaf(tensor);
  }
  return in;
}

std::vector<at::Tensor> values_of(const Inputs& parameters) {
  std::vector<at::Tensor> out;
  for (const auto& [name, tensor] : parameters) out.push_back(tensor);
  return out;
}

double train_step(FusedAdamW& optimizer, const at::Tensor& predicted, const at::Tensor& target) {
  const at::Tensor loss = at::mse_loss(predicted, target);
  optimizer.clear_gradients();
  loss.backward();
  optimizer.step();
  return loss.item<double>();
}

at::Tensor kept_patches(const Job& job) {
  std::vector<std::int64_t> keep = job.args.at("keep").get<std::vector<std::int64_t>>();
  if (keep.empty()) {
    const std::int64_t columns = (job.args.at("frames").get<std::int64_t>() - 16) / 10 + 1;
    return at::arange(12 * columns, at::kLong);
  }
  return at::tensor(keep, at::kLong);
}

Work passt_evaluate(const Job& job, Inputs in) {
  const at::Tensor mel = in["mel"], keep = kept_patches(job);
  const Inputs parameters = parameters_of(std::move(in), {"mel", "target"}, false);
  const auto run = [=] {
    const c10::NoGradGuard no_grad;
    return passt_forward(parameters, mel, keep);
  };
  return {.check =
              [run] {
                const PasstResult result = run();
                Outputs out;
                add(out, "logits", result.logits);
                add(out, "features", result.features);
                return out;
              },
          .run = [run] { run(); }};
}

Work passt_train(const Job& job, Inputs in) {
  const at::Tensor mel = in["mel"], target = in["target"], keep = kept_patches(job);
  const Inputs parameters = parameters_of(std::move(in), {"mel", "target"}, true);
  const auto optimizer =
      std::make_shared<FusedAdamW>(values_of(parameters), kPasstRate, kWeightDecay);
  const auto step = [=] {
    return train_step(*optimizer, passt_forward(parameters, mel, keep).logits, target);
  };
  return {.check =
              [step, parameters] {
                Outputs out;
                std::vector<float> losses;
                for (int i = 0; i < kCheckedPasstSteps; ++i) {
                  losses.push_back(static_cast<float>(step()));
                  if (i > 0) continue;
                  for (const char* name : kCheckedGradients) {
                    add(out, std::string("gradient of ") + name, parameters.at(name).grad());
                  }
                }
                out.add("losses", losses.data(), losses.size());
                return out;
              },
          .run = [step] { step(); }};
}

struct DenseRow {
  explicit DenseRow(Inputs in)
      : x(in["x"]),
        y(in["y"]),
        parameters(parameters_of(std::move(in), {"x", "y"}, true)),
        optimizer(values_of(parameters), kDenseRate, kWeightDecay) {}

  at::Tensor forward(const at::Tensor& batch) const {
    at::Tensor h = batch;
    for (int i = 0; i < 3; ++i) {
      const std::string name = "layers." + std::to_string(i);
      h = at::linear(h, parameters.at(name + ".weight"), parameters.at(name + ".bias"));
      if (i < 2) h = at::relu(h);
    }
    return h;
  }
  double step(const at::Tensor& batch, const at::Tensor& target) {
    return train_step(optimizer, forward(batch), target);
  }
  double ordered_step(std::int64_t index) {
    const std::int64_t begin = index * kDenseBatch % (x.size(0) - kDenseBatch + 1);
    return step(x.slice(0, begin, begin + kDenseBatch), y.slice(0, begin, begin + kDenseBatch));
  }
  void epoch() {
    const std::int64_t rows = x.size(0);
    const at::Tensor order = at::randperm(rows, at::kLong);
    for (std::int64_t begin = 0; begin + kDenseBatch <= rows; begin += kDenseBatch) {
      const at::Tensor chosen = order.slice(0, begin, begin + kDenseBatch);
      step(x.index_select(0, chosen), y.index_select(0, chosen));
    }
  }

  at::Tensor x, y;
  Inputs parameters;
  FusedAdamW optimizer;
};

Work dense(const Job& job, Inputs in) {
  const auto row = std::make_shared<DenseRow>(std::move(in));
  const bool epoch = job.args.at("epoch");
  return {.check =
              [row] {
                std::vector<float> losses;
                for (int i = 0; i < kCheckedDenseSteps; ++i) {
                  losses.push_back(static_cast<float>(row->ordered_step(i)));
                }
                Outputs out;
                out.add("losses", losses.data(), losses.size());
                return out;
              },
          .run = [row, epoch] { epoch ? row->epoch() : static_cast<void>(row->ordered_step(0)); }};
}

}  // namespace

std::map<std::string, MakeWork> model_kinds() {
  return {{"passt_evaluate", passt_evaluate}, {"passt_train", passt_train}, {"dense", dense}};
}

}  // namespace onpa::vs
