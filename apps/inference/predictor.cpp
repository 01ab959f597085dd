#include "apps/inference/predictor.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "apps/study/prepare.h"
#include "apps/support/log.h"
#include "apps/support/suggest.h"
#include "audio/mel.h"
#include "kernels/error.h"
#include "nn/load.h"
#include "tensor/autograd.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

// The averaged weights of a checkpoint if it has any.
nn::WeightsFile weights_of(const nn::CheckpointContent& content, const fs::path& folder) {
  const char* name = content.tensors.contains("swa") ? "swa" : "model";
  const auto tensors = content.tensors.find(name);
  const auto metadata = content.metadata.find(name);
  if (tensors == content.tensors.end() || metadata == content.metadata.end()) {
    fail(ExitCode::kBadCheckpoint, folder.string(), ": no ", name, ".safetensors");
  }
  nn::WeightsFile out{.tensors = tensors->second, .metadata = metadata->second};
  out.source = folder;
  out.container = "checkpoint";
  out.set = name;
  out.sets = {name};
  out.precision = "f32";
  return out;
}

Predictor::Output output_of(const ModelCard& card, std::span<const float> logits) {
  Predictor::Output out;
  for (const float logit : logits) {
    out.logits.push_back(logit);
    out.prediction.push_back(static_cast<double>(logit) * card.target_std + card.target_mean);
  }
  return out;
}

}  // namespace

nn::FoundCheckpoint open_checkpoint(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    fail(ExitCode::kInputMissing, folder.string(), ": no such run or checkpoint folder");
  }
  if (fs::exists(folder / "MANIFEST.json")) return {folder, nn::load_checkpoint(folder)};
  const fs::path checkpoints = fs::exists(folder / "checkpoints") ? folder / "checkpoints" : folder;
  std::vector<std::string> skipped;
  auto found = nn::find_checkpoint(checkpoints, skipped);
  for (const std::string& reason : skipped) spdlog::warn("checkpoint passed over: {}", reason);
  if (!found) fail(ExitCode::kBadCheckpoint, folder.string(), ": holds no valid checkpoint");
  return *std::move(found);
}

nn::WeightsFile open_weights(const fs::path& path, const WeightsChoice& choice) {
  if (!fs::exists(path)) fail(ExitCode::kInputMissing, path.string(), ": no such model");
  if (!fs::is_directory(path)) {
    nn::WeightsFile weights = nn::read_weights(path, choice.set);
    if (weights.sets.size() > 1) {
      spdlog::info("{}: weights {} of {}; --set chooses", path.string(), nn::set_label(weights.set),
                   nn::set_labels(weights));
    }
    return weights;
  }
  if (!choice.set.empty() || choice.hop != 0) {
    fail(ExitCode::kUsage, path.string(),
         ": --set and --hop are for files of weights; a run or checkpoint says itself what it is");
  }
  const nn::FoundCheckpoint found = open_checkpoint(path);
  return weights_of(found.content, found.folder);
}

Predictor::Predictor(const fs::path& path, const WeightsChoice& choice) {
  load(open_weights(path, choice), choice.hop);
}

Predictor::Predictor(const nn::FoundCheckpoint& checkpoint) {
  load(weights_of(checkpoint.content, checkpoint.folder));
}

void Predictor::load(const nn::WeightsFile& weights, int hop) {
  source_ = weights.source;
  card_ = ModelCard::read({weights.tensors, weights.metadata, {}}, source_.string(), hop);
  nn::Module* module = nullptr;
  if (card_.kind == "passt") {
    module = (passt_ = std::make_unique<nn::Passt>(card_.passt)).get();
  } else {
    module = (dense_ = std::make_unique<nn::Dense>(card_.dense)).get();
  }
  try {
    nn::load_parameters(*module, weights.tensors);
    const std::string bad = nn::first_not_finite(weights.tensors);
    if (!bad.empty()) fail(ExitCode::kBadCheckpoint, "tensor ", bad, " holds NaN or infinity");
  } catch (const Error& error) {
    fail(error.code(), source_.string(), ": ", error.what());
  }
}

Predictor::~Predictor() = default;

void Predictor::compute_on(const ComputeChoice& choice) {
  move_model(passt_ ? static_cast<nn::Module&>(*passt_) : *dense_,
             choose_compute(choice, card_.kind));
}

Predictor::Output Predictor::predict(std::span<const float> wave, const std::string& name) {
  if (!passt_) fail(ExitCode::kUsage, source_.string(), ": a dense model takes CSV, not audio");
  const std::int64_t shortest = shortest_samples(card_);
  std::vector<float> samples(wave.begin(), wave.end());
  if (static_cast<std::int64_t>(samples.size()) < shortest) {
    spdlog::warn("{}: {:.3f} s is under one patch; padded with silence", name,
                 static_cast<double>(samples.size()) / card_.mel.rate_hz);
    samples.resize(static_cast<std::size_t>(shortest));
  }
  const auto count = static_cast<std::int64_t>(samples.size());
  // Frames that the time table covers; what comes after would be cut by the model anyway.
  const std::int64_t frames =
      card_.passt.patch_t + (card_.passt.table_t - 1) * card_.passt.stride_t;
  if (card_.passt.grid_t(card_.mel.frames(count)) > card_.passt.table_t) {
    spdlog::warn("{}: {:.1f} s is longer than the model's {:.1f} s; the rest is not heard", name,
                 static_cast<double>(count) / card_.mel.rate_hz,
                 static_cast<double>(frames) * card_.mel.hop_samples / card_.mel.rate_hz);
  }
  const NoGrad no_grad;
  const DeviceKind device = passt_->parameters().front().tensor.device();
  const Tensor there = Tensor::from<float>({1, count}, samples).to(device);
  const nn::Passt::Output result =
      passt_->forward(for_model(audio::log_mel(there, card_.mel), *passt_));
  Output out = output_of(card_, on_host(result.logits).span<float>());
  out.features = on_host(result.features).to_vector<float>();
  return out;
}

std::vector<Predictor::Output> Predictor::predict(const data::Table& table) {
  if (!dense_) fail(ExitCode::kUsage, source_.string(), ": an audio model takes audio, not CSV");
  const std::size_t width = card_.feature_names.size();
  std::vector<int> columns;
  for (const std::string& name : card_.feature_names) {
    columns.push_back(table.find_any(column_aliases(name)));
    if (columns.back() < 0) {
      fail(ExitCode::kBadData, table.name(), ": no column '", name, "'",
           suggestion(name, table.columns()));
    }
  }
  const Tensor x = Tensor::empty({table.rows(), static_cast<std::int64_t>(width)});
  std::vector<float> raw(width);
  for (std::int64_t row = 0; row < table.rows(); ++row) {
    for (std::size_t j = 0; j < width; ++j) {
      double value = 0;
      const std::string_view cell = table.cell(row, columns[j]);
      const CellProblem problem = parse_feature(card_.feature_names[j], cell, value);
      raw[j] = static_cast<float>(value);
      if (problem != CellProblem::kNone || !std::isfinite(raw[j])) {
        fail(ExitCode::kBadData, table.name(), ":", table.line(row), ": column ",
             card_.feature_names[j], " is '", cell, "', want a finite number");
      }
    }
    card_.features.apply(raw,
                         x.span<float>().subspan(static_cast<std::size_t>(row) * width, width));
  }
  const NoGrad no_grad;
  const Tensor logits = on_host(dense_->forward(for_model(x, *dense_)));
  const auto outputs = static_cast<std::size_t>(logits.size(1));
  std::vector<Output> out;
  for (std::size_t row = 0; row < static_cast<std::size_t>(table.rows()); ++row) {
    out.push_back(output_of(card_, logits.span<float>().subspan(row * outputs, outputs)));
  }
  return out;
}

}  // namespace onpa::apps
