#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "apps/commands/commands.h"
#include "apps/inference/predictor.h"
#include "apps/support/config.h"
#include "apps/training/memory_report.h"
#include "apps/training/train_state.h"
#include "data/dataset.h"
#include "kernels/error.h"
#include "nn/adapt.h"
#include "nn/load.h"
#include "nn/passt.h"
#include "nn/passt_io.h"
#include "nn/weights_file.h"
#include "tensor/io/pickle.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

void print_tensor(const std::string& name, const Shape& shape, const char* dtype) {
  std::string extents;
  for (const std::int64_t extent : shape.extents()) {
    extents += fmt::format("{}{}", extents.empty() ? "" : ", ", extent);
  }
  fmt::print("{:<36} {:<5} {:>20} {:>12}\n", name, dtype, "(" + extents + ")", shape.numel());
}

void print_passt(const nn::PasstConfig& c) {
  fmt::print("passt: depth {}, width {}, heads {}, mlp {}, outputs {}\n", c.depth, c.width, c.heads,
             c.mlp, c.outputs);
  fmt::print("input: {} mels, patches {} x {}, strides {} x {}, grid {} x at most {}\n", c.mels,
             c.patch_f, c.patch_t, c.stride_f, c.stride_t, c.grid_f(), c.table_t);
}

void inspect_preset(const std::string& name) {
  const nn::Passt model(nn::PasstConfig::preset(name));
  print_passt(model.config());
  for (const nn::NamedParameter& p : model.parameters()) {
    print_tensor(p.name, p.tensor.shape(), name_of(p.tensor.dtype()));
  }
  fmt::print("parameters: {}\n", model.parameter_count());
}

// The preset of these sizes and this front end, "" if there is none.
std::string variant_of(const ModelCard& card) {
  const auto sizes = [](nn::PasstConfig c) {
    c.outputs = 1;
    c.head_dist = true;
    return nn::passt_metadata(c);
  };
  for (const std::string& name : nn::PasstConfig::preset_names()) {
    if (sizes(nn::PasstConfig::preset(name)) == sizes(card.passt) &&
        nn::preset_input(name).hop_samples == card.mel.hop_samples) {
      return name;
    }
  }
  return "";
}

void print_card(const ModelCard& card) {
  const std::string variant = variant_of(card);
  fmt::print("variant: {}\n", variant.empty() ? "none of the presets" : variant);
  fmt::print("front end: {} Hz, {} samples between frames (hop), ", card.mel.rate_hz,
             card.mel.hop_samples);
  if (card.seconds > 0) {
    fmt::print("clips of {:g} s\n", card.seconds);
  } else {
    fmt::print("clips of any length\n");
  }
}

// What keeps the weights from being used as those of a `card`.
void print_faults(const nn::WeightsFile& weights, const ModelCard& card) {
  try {
    card.check_tensors(weights.tensors, weights.source.string());
  } catch (const Error& error) {
    fmt::print("not usable: {}\n", error.what());
  }
  const std::string bad = nn::first_not_finite(weights.tensors);
  if (!bad.empty()) fmt::print("not usable: tensor {} holds NaN or infinity\n", bad);
}

// What the weights are, or why they are none of a model.
void print_kind(const nn::WeightsFile& weights, int hop) {
  try {
    const ModelCard card =
        ModelCard::read({weights.tensors, weights.metadata, {}}, weights.source.string(), hop);
    if (card.kind == "passt") {
      print_passt(card.passt);
      print_card(card);
    }
    print_faults(weights, card);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kConfig) {  // all but the front end is known
      ModelCard card;
      card.kind = "passt";
      card.passt = nn::infer_passt_config({weights.tensors, weights.metadata, {}});
      print_passt(card.passt);
      fmt::print("front end: not known: {}\n", error.what());
      print_faults(weights, card);
    } else if (nn::is_deit(weights.tensors)) {
      fmt::print("an image transformer (DeiT), which a training can start from: --init-from\n");
    } else {
      fmt::print("not a model's weights: {}\n", error.what());
    }
  }
}

std::string joined(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 12;
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i) {
    out += (i ? ", " : "") + io::shown_text(names[i]);
  }
  return names.size() > kMost ? fmt::format("{} and {} more", out, names.size() - kMost) : out;
}

void inspect_file(const fs::path& path, const WeightsChoice& choice) {
  const nn::WeightsFile weights = nn::read_weights(path, choice.set);
  fmt::print("file: {} ({})\n", path.string(), weights.container);
  if (weights.sets.size() > 1 || !weights.set.empty()) {
    fmt::print("weights: {} (it has: {}; --set chooses)\n", nn::set_label(weights.set),
               nn::set_labels(weights));
  }
  fmt::print("stored as: {}\n", weights.precision);
  if (!weights.others.empty()) fmt::print("passed over: {}\n", joined(weights.others));
  std::int64_t total = 0;
  for (const auto& [name, tensor] : weights.tensors) {
    print_tensor(name, tensor.shape(), name_of(tensor.dtype()));
    total += tensor.numel();
  }
  fmt::print("tensors: {}, values: {}\n", weights.tensors.size(), total);
  for (const auto& [key, value] : weights.metadata) fmt::print("{}: {}\n", key, value);
  print_kind(weights, choice.hop);
}

void inspect_checkpoint(const fs::path& folder) {
  const nn::FoundCheckpoint found = open_checkpoint(folder);
  fmt::print("checkpoint: {}\nstep: {}\n", found.folder.string(), found.content.step);
  for (const auto& [name, tensors] : found.content.tensors) {
    std::int64_t total = 0;
    for (const auto& [tensor_name, tensor] : tensors) total += tensor.numel();
    fmt::print("{}.safetensors: {} tensors, {} values\n", name, tensors.size(), total);
  }
  const auto metadata = found.content.metadata.find("model");
  if (metadata != found.content.metadata.end()) {
    for (const auto& [key, value] : metadata->second) fmt::print("{}: {}\n", key, value);
  }
  const auto state = found.content.text.find("state.json");
  if (state != found.content.text.end()) fmt::print("{}", state->second);
}

void inspect_data(const fs::path& folder) {
  const data::DataSet data = data::DataSet::load(folder);
  std::int64_t train = 0, left_out = 0, test = 0, audio = 0;
  for (const data::Track& track : data.tracks) {
    (track.split == data::Split::kTest ? test : track.kept ? train : left_out) += 1;
    audio += track.audio.empty() ? 0 : 1;
  }
  std::string features;
  for (const std::string& name : data.feature_names) {
    features += (features.empty() ? "" : ", ") + name;
  }
  fmt::print("data set: {}\ntracks: {}\ntrain: {}\nleft out by undersampling: {}\ntest: {}\n",
             folder.string(), data.tracks.size(), train, left_out, test);
  fmt::print("with audio: {}\nfeatures: {}\nhash: {}\n{}\n", audio, features, data.hash, data.card);
}

// The time table grows with the clip, as that of published checkpoints for longer clips does.
void inspect_memory(const InspectArgs& args) {
  MemoryQuestion question;
  question.model = nn::PasstConfig::preset(args.path);
  const audio::MelConfig mel;
  const auto samples = static_cast<std::int64_t>(std::llround(args.seconds * mel.rate_hz));
  question.model.table_t =
      std::max(question.model.table_t, question.model.grid_t(mel.frames(samples)));
  question.model.outputs = 1;
  question.batch = args.batch;
  question.seconds = args.seconds;
  question.dtype = args.precision == "f32" ? DType::kF32 : DType::kBF16;
  question.recompute = nn::recompute_of(args.recompute);
  question.patchout = {.time = args.patchout_time, .freq = args.patchout_freq, .unstructured = 0};
  const MemoryReport report = plan_passt_memory(question);
  fmt::print("{}: batch {} of {:g} s, {} tokens each, {}, recompute {}\n", args.path, args.batch,
             args.seconds, report.tokens, args.precision, args.recompute);
  constexpr double kGiB = 1 << 30;
  for (const auto& [name, bytes] : report.bytes) {
    fmt::print("{:<26} {:>9.3f} GiB\n", name, static_cast<double>(bytes) / kGiB);
  }
  fmt::print("{:<26} {:>9.3f} GiB\n", "total", static_cast<double>(report.total_bytes) / kGiB);
}

}  // namespace

int run_inspect(const InspectArgs& args) {
  const fs::path path = args.path;
  if (args.memory) {
    inspect_memory(args);
  } else if (args.path == "settings") {
    fmt::print("{}", describe_settings());
  } else if (!fs::exists(path)) {
    if (args.path.rfind("passt-", 0) != 0) {
      fail(ExitCode::kInputMissing, args.path, ": no such file, folder or preset");
    }
    inspect_preset(args.path);
  } else if (!fs::is_directory(path)) {
    inspect_file(path, args.weights);
  } else if (fs::exists(path / "tracks.csv")) {
    inspect_data(path);
  } else {
    inspect_checkpoint(path);
  }
  return 0;
}

}  // namespace onpa::apps
