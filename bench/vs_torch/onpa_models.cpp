// Rows of the audio transformer: training steps and evaluations.
#include <memory>
#include <vector>

#include "bench/vs_torch/onpa_training.h"
#include "nn/passt.h"
#include "tests/support/hash_fill.h"

namespace onpa::vs {
namespace {

using testing::hash_tensor;

constexpr float kPasstRate = 1e-5f;
constexpr int kCheckedPasstSteps = 2;
// Parameters whose first gradient is compared: the model's first, one in the middle, the last.
constexpr const char* kCheckedGradients[] = {"patch_embed.proj.weight", "blocks.5.attn.qkv.weight",
                                             "head.1.weight"};

nn::PasstConfig passt_config(std::int64_t table_t) {
  nn::PasstConfig config = nn::PasstConfig::preset("passt-s");
  config.table_t = table_t;
  config.outputs = 1;
  config.head_dist = false;
  return config;
}

struct PasstRow {
  PasstRow(const Job& job, const io::SafetensorsFile& in)
      : model(passt_config(job.args.at("table_t"))),
        mel(in.find("mel")),
        target(in.find("target")) {
    load_model(model, in);
    grid.grid_f = model.config().grid_f();
    grid.grid_t = model.config().grid_t(mel.size(2));
    grid.keep = job.args.at("keep").get<std::vector<std::int32_t>>();
  }
  nn::Passt::Output forward() const { return model.forward_grid(mel, grid); }

  nn::Passt model;
  Tensor mel, target;
  ops::PatchGrid grid;
};

io::NamedTensors passt_inputs(const Job& job) {
  io::NamedTensors out = passt_parameters(job.args.at("table_t"));
  const std::int64_t frames = job.args.at("frames");
  out.emplace_back("mel", hash_tensor({1, 128, frames}, "mel", 1.5f));
  out.emplace_back("target", Tensor::full({1, 1}, 0.3));
  return out;
}

Work passt_evaluate(const Job& job, const io::SafetensorsFile& in) {
  const auto row = std::make_shared<PasstRow>(job, in);
  const auto run = [row] {
    const NoGrad no_grad;
    return row->forward();
  };
  return {.check =
              [run] {
                const nn::Passt::Output result = run();
                Outputs out;
                add(out, "logits", result.logits);
                add(out, "features", result.features);
                return out;
              },
          .run = [run] { run(); }};
}

Work passt_train(const Job& job, const io::SafetensorsFile& in) {
  const auto row = std::make_shared<PasstRow>(job, in);
  row->model.train();
  if (!job.variant.empty()) row->model.set_recompute(nn::recompute_of(job.variant));
  const auto training = std::make_shared<Training>(row->model);
  const auto step = [row, training] {
    return training->step(row->forward().logits, row->target, kPasstRate);
  };
  return {.check =
              [step, training] {
                Outputs out;
                std::vector<float> losses;
                for (int i = 0; i < kCheckedPasstSteps; ++i) {
                  losses.push_back(static_cast<float>(step()));
                  if (i > 0) continue;
                  for (const char* name : kCheckedGradients) {
                    add(out, std::string("gradient of ") + name, training->gradient(name));
                  }
                }
                out.add("losses", losses.data(), losses.size());
                return out;
              },
          .run = [step] { step(); }};
}

}  // namespace

io::NamedTensors passt_parameters(std::int64_t table_t) {
  nn::Passt model(passt_config(table_t));
  testing::hash_fill_parameters(model);
  return named_parameters(model);
}

std::map<std::string, Kind> model_kinds() {
  return {{"passt_evaluate", {.inputs = passt_inputs, .work = passt_evaluate}},
          {"passt_train", {.inputs = passt_inputs, .work = passt_train}}};
}

}  // namespace onpa::vs
