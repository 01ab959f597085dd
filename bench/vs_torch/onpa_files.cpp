// Rows of files: a checkpoint of 86 M parameters, saved and loaded.
#include <memory>

#include "bench/vs_torch/onpa_rows.h"
#include "nn/checkpoint.h"
#include "nn/load.h"
#include "nn/passt.h"

namespace onpa::vs {
namespace {

constexpr std::int64_t kTableT = 99;
constexpr const char* kChecked = "blocks.5.attn.qkv.weight";

nn::PasstConfig config() {
  nn::PasstConfig config = nn::PasstConfig::preset("passt-s");
  config.table_t = kTableT;
  config.outputs = 1;
  config.head_dist = false;
  return config;
}

// Saves to the disk: the call returns when the files are synced. Two checkpoints are kept, so the
// oldest is deleted in each call, as in a training run.
Work checkpoint_save(const Job& job, const io::SafetensorsFile& in) {
  const auto content = std::make_shared<nn::CheckpointContent>();
  content->tensors["model"] = in.tensors;
  const auto run = [content, folder = job.folder / "onpa"] {
    ++content->step;
    return nn::save_checkpoint(folder, *content, 1);
  };
  return {.check =
              [run] {
                Outputs out;
                const nn::CheckpointContent read = nn::load_checkpoint(run());
                for (const auto& [name, tensor] : read.tensors.at("model")) {
                  if (name == kChecked) add(out, name, tensor);
                }
                return out;
              },
          .run = [run] { run(); }};
}

// Loads and verifies a checkpoint and copies it into a model.
Work checkpoint_load(const Job& job, const io::SafetensorsFile& in) {
  nn::CheckpointContent content;
  content.step = 1;
  content.tensors["model"] = in.tensors;
  const auto path = nn::save_checkpoint(job.folder / "onpa", content, 1);
  const auto model = std::make_shared<nn::Passt>(config());
  const auto run = [model, path] {
    nn::load_parameters(*model, nn::load_checkpoint(path).tensors.at("model"));
  };
  return {.check =
              [run, model] {
                run();
                Outputs out;
                for (const nn::NamedParameter& p : model->parameters()) {
                  if (p.name == kChecked) add(out, p.name, p.tensor);
                }
                return out;
              },
          .run = run};
}

}  // namespace

std::map<std::string, Kind> file_kinds() {
  const auto inputs = [](const Job&) { return passt_parameters(kTableT); };
  return {{"checkpoint_save", {.inputs = inputs, .work = checkpoint_save}},
          {"checkpoint_load", {.inputs = inputs, .work = checkpoint_load}}};
}

}  // namespace onpa::vs
