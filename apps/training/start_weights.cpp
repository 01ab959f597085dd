#include "apps/training/start_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "apps/inference/predictor.h"
#include "apps/support/log.h"
#include "apps/support/run_dir.h"
#include "apps/training/rank_agreement.h"
#include "apps/training/train_state.h"
#include "data/file.h"
#include "kernels/error.h"
#include "nn/adapt.h"
#include "nn/load.h"
#include "nn/passt_io.h"
#include "nn/weights_file.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

using Values = std::vector<std::pair<std::string, std::string>>;

// Settings that say what the weights are, and those of their front end.
const std::vector<std::string> kPresetKeys = {"model.depth",    "model.width",    "model.heads",
                                              "model.mlp",      "model.patch_f",  "model.patch_t",
                                              "model.stride_f", "model.stride_t", "model.table_t",
                                              "mel.mels",       "mel.hop_samples"};

bool has(const std::vector<std::string>& keys, const std::string& key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// The preset of such a model, or the one that its sizes are nearest to, for what else it decides:
// patchout.
std::string preset_of(const nn::PasstConfig& p, std::int64_t hop_samples) {
  for (const std::string& name : nn::PasstConfig::preset_names()) {
    const nn::PasstConfig q = nn::PasstConfig::preset(name);
    if (p.width == q.width && p.depth == q.depth && p.mels == q.mels && p.patch_f == q.patch_f &&
        p.stride_t == q.stride_t && p.table_t == q.table_t &&
        hop_samples == nn::preset_input(name).hop_samples) {
      return name;
    }
  }
  const nn::PasstConfig small = nn::PasstConfig::preset("passt-xs");
  if (p.width == small.width && p.patch_f == small.patch_f && p.mels == small.mels) {
    return "passt-xs";
  }
  return p.depth == nn::PasstConfig::preset("passt-l").depth ? "passt-l" : "passt-s";
}

Values sizes_of(const nn::PasstConfig& p) {
  return {
      {"model.depth", std::to_string(p.depth)},     {"model.width", std::to_string(p.width)},
      {"model.heads", std::to_string(p.heads)},     {"model.mlp", std::to_string(p.mlp)},
      {"model.patch_f", std::to_string(p.patch_f)}, {"model.patch_t", std::to_string(p.patch_t)}};
}

Values values_of(const ModelCard& card) {
  const nn::PasstConfig& p = card.passt;
  Values out = sizes_of(p);
  out.insert(out.end(), {{"model.stride_f", std::to_string(p.stride_f)},
                         {"model.stride_t", std::to_string(p.stride_t)},
                         {"model.table_t", std::to_string(p.table_t)},
                         {"mel.mels", std::to_string(card.mel.mels)},
                         {"mel.win_samples", std::to_string(card.mel.win_samples)},
                         {"mel.hop_samples", std::to_string(card.mel.hop_samples)},
                         {"mel.fmin_hz", fmt::format("{}", card.mel.fmin_hz)},
                         {"mel.fmax_hz", fmt::format("{}", card.mel.fmax_hz)}});
  return out;
}

// A run's settings say nothing of these.
void check_front_end(const audio::MelConfig& mel) {
  const audio::MelConfig ours;
  if (mel.rate_hz == ours.rate_hz && mel.preemphasis == ours.preemphasis &&
      mel.log_offset == ours.log_offset && mel.mean == ours.mean && mel.std == ours.std) {
    return;
  }
  fail(ExitCode::kConfig, "the front end has ", mel.rate_hz, " Hz, pre-emphasis ", mel.preemphasis,
       ", offset ", mel.log_offset, ", mean ", mel.mean, " and deviation ", mel.std, ", want ",
       ours.rate_hz, " Hz, ", ours.preemphasis, ", ", ours.log_offset, ", ", ours.mean, " and ",
       ours.std);
}

// What somebody chose, against the values of the weights.
class Choices {
 public:
  Choices(const Config& asked, const std::vector<std::string>& given, const nn::PasstConfig& found,
          std::int64_t hop_samples)
      : asked_(asked), given_(given), found_(found) {
    const bool preset = has(given_, "model.preset");
    preset_ = preset ? asked_.model.preset : preset_of(found, hop_samples);
    chosen_ = given_;
    if (preset) chosen_.insert(chosen_.end(), kPresetKeys.begin(), kPresetKeys.end());
  }

  // Settings on top of the weights' ones.
  Config apply(Values values, double seconds, const std::string& origin) {
    values.emplace_back("model.preset", preset_);
    if (seconds > 0 && !has(given_, "data.seconds")) {
      values.emplace_back("data.seconds", fmt::format("{}", seconds));
    }
    const Config found = rebase(asked_, given_, preset_, values, origin);
    for (auto& [key, text] : values) {
      if (!has(chosen_, key) || value_text(found, key) == value_text(asked_, key)) continue;
      if (!may_differ(key)) refuse(key, value_text(found, key));
      text = value_text(asked_, key);
    }
    Config out = rebase(asked_, given_, preset_, values, origin);
    stretch_table(out);
    return out;
  }

 private:
  bool may_differ(const std::string& key) const {
    if (key == "model.depth") {
      return asked_.model.depth == std::ssize(nn::kept_blocks(found_.depth));
    }
    return key == "model.table_t" && has(given_, key);
  }

  [[noreturn]] void refuse(const std::string& key, const std::string& found) const {
    const std::string from =
        has(given_, key) ? key : fmt::format("{} (of model.preset={})", key, asked_.model.preset);
    const auto kept = std::ssize(nn::kept_blocks(found_.depth));
    const std::string other =
        key == "model.depth" && kept != found_.depth
            ? fmt::format(", or take {} (the first, every second and the last block)", kept)
            : std::string();
    fail(ExitCode::kConfig, from, " is ", value_text(asked_, key), ", the weights have ", found,
         ": leave ", has(given_, key) ? key : "model.preset", " out", other,
         ", or start from other weights");
  }

  // As long as the clips, if that is asked for.
  void stretch_table(Config& out) const {
    if (out.model.time_table != "interpolate" || has(given_, "model.table_t")) return;
    const audio::MelConfig mel = out.mel_config();
    const auto samples = static_cast<std::int64_t>(std::llround(out.data.seconds * mel.rate_hz));
    if (samples < 1) return;
    out.model.table_t = std::max(out.model.table_t, out.passt().grid_t(mel.frames(samples)));
  }

  const Config& asked_;
  const std::vector<std::string>& given_;
  nn::PasstConfig found_;
  std::string preset_;
  std::vector<std::string> chosen_;
};

std::string summary(const std::string& name, const Config& config, const nn::Adapted& weights) {
  const nn::PasstConfig p = config.passt();
  return fmt::format(
      "starts from {}: {} blocks of width {}, strides {} and {}, {} columns of time, "
      "hop {}, patchout {} and {}{}{}",
      name, p.depth, p.width, p.stride_f, p.stride_t, p.table_t, config.mel.hop_samples,
      config.train.patchout_time, config.train.patchout_freq, weights.changes.empty() ? "" : "; ",
      fmt::join(weights.changes, "; "));
}

// A table that was published for two hops leaves the choice to mel.hop_samples.
ModelCard card_of(const StartWeights& weights, const Config& config,
                  const std::vector<std::string>& given) {
  try {
    return ModelCard::read(weights.file(), weights.name());
  } catch (const Error& error) {
    if (error.code() != ExitCode::kConfig) throw;
    if (!has(given, "mel.hop_samples")) {
      fail(error.code(), error.what(), " (in training: --set mel.hop_samples=N)");
    }
    return ModelCard::read(weights.file(), weights.name(),
                           static_cast<int>(config.mel.hop_samples));
  }
}

bool has_checkpoint(const fs::path& run) {
  const fs::path folder = run / "checkpoints";
  if (!fs::is_directory(folder)) return false;
  return std::ranges::any_of(fs::directory_iterator(folder), [](const auto& entry) {
    return entry.path().filename().string().starts_with("step_");
  });
}

// The settings that a run was started with, where nobody chose others.
void settings_of_run(TrainOptions& options, const fs::path& file) {
  const Config saved = parse_toml("passt", data::read_file(file), file.string());
  const std::string preset =
      has(options.given, "model.preset") ? options.config.model.preset : saved.model.preset;
  Values values = {{"model.preset", preset}};
  ModelCard card;
  card.passt = saved.passt();
  card.mel = saved.mel_config();
  Values own = values_of(card);
  own.emplace_back("data.seconds", value_text(saved, "data.seconds"));
  for (auto& value : own) {
    if (!has(options.given, value.first)) values.push_back(std::move(value));
  }
  options.config = rebase(options.config, options.given, preset, values, file.string());
}

}  // namespace

StartWeights::StartWeights(const fs::path& path, const std::string& set) : name_(path.string()) {
  if (!fs::is_directory(path)) {
    nn::WeightsFile weights = nn::read_weights(path, set);
    if (weights.sets.size() > 1) {
      spdlog::info("{}: weights {} of {}; --init-set chooses", name_, nn::set_label(weights.set),
                   nn::set_labels(weights));
    }
    const std::string bad = nn::first_not_finite(weights.tensors);
    if (!bad.empty()) {
      fail(ExitCode::kBadCheckpoint, name_, ": tensor ", bad, " holds NaN or infinity");
    }
    file_ = {std::move(weights.tensors), std::move(weights.metadata)};
    return;
  }
  if (!set.empty()) {
    fail(ExitCode::kUsage, name_,
         ": --init-set is for files of weights; a run or checkpoint has one set");
  }
  nn::FoundCheckpoint found = open_checkpoint(path);
  const std::string own = found.content.tensors.contains("swa") ? "swa" : "model";
  name_ = found.folder.string();
  file_ = {std::move(found.content.tensors[own]), std::move(found.content.metadata[own])};
}

std::string StartWeights::hash() const {
  std::vector<std::string> each;
  for (const auto& [name, tensor] : file_.tensors) {
    const std::uint64_t values = XXH3_64bits(tensor.bytes(), tensor.byte_count());
    each.push_back(name + " " + data::hash_hex(values));
  }
  std::sort(each.begin(), each.end());
  const std::string text = fmt::format("{}", fmt::join(each, "\n"));
  return data::hash_hex(XXH3_64bits(text.data(), text.size()));
}

StartWeights::Fitted StartWeights::fit(const Config& config,
                                       const std::vector<std::string>& given) const {
  try {
    Fitted out;
    if (nn::is_deit(file_.tensors)) {
      const nn::PasstConfig found = nn::deit_config(file_.tensors, config.passt());
      out.config =
          Choices(config, given, found, config.mel.hop_samples).apply(sizes_of(found), 0, name_);
      out.weights = nn::adapt_deit(file_.tensors, out.config.passt());
      return out;
    }
    const ModelCard card = card_of(*this, config, given);
    if (card.kind != "passt") fail(ExitCode::kConfig, "holds a ", card.kind, ", want a passt");
    check_front_end(card.mel);
    out.config = Choices(config, given, card.passt, card.mel.hop_samples)
                     .apply(values_of(card), card.seconds, name_);
    const nn::AdaptOptions how = {.interpolate_table =
                                      out.config.model.time_table == "interpolate"};
    out.weights = nn::adapt_weights(file_.tensors, card.passt, out.config.passt(), how);
    return out;
  } catch (const Error& error) {
    const std::string message = error.what();
    fail(error.code(), message.starts_with(name_) ? "" : name_ + ": ", message);
  }
}

TrainOptions with_start(const TrainOptions& options, const data::DataSet& data, Ranks& ranks) {
  if (options.init_from.empty() || options.config.model.kind != "passt") return options;
  check_same_job(ranks, options, data);
  TrainOptions out = options;
  ranks.on_first([&] {
    const fs::path saved = options.run / "config.resolved.toml";
    if (has_checkpoint(options.run) && fs::exists(saved)) {
      spdlog::info("{} goes on from its checkpoint; {} is not read", options.run.string(),
                   options.init_from.string());
      settings_of_run(out, saved);
    } else {
      const StartWeights weights(out.init_from, out.init_set);
      out.start_hash = weights.hash();
      StartWeights::Fitted fitted = weights.fit(out.config, out.given);
      out.config = std::move(fitted.config);
      spdlog::info("{}", summary(weights.name(), out.config, fitted.weights));
      out.start = std::make_shared<nn::Adapted>(std::move(fitted.weights));
    }
  });
  if (ranks.several()) {
    out.config = parse_toml("passt", ranks.broadcast_text(to_toml(out.config)), "rank 0");
  }
  return out;
}

std::string load_start(const TrainOptions& options, TrainTask& task, const FlatParams& params) {
  if (options.start) {
    const nn::LoadReport report = nn::load_parameters(task.module(), options.start->tensors, false);
    ONPA_CHECK(report.missing == options.start->initialized && report.unexpected.empty(),
               "init-from: ", report.missing.size(), " tensors are missing, ",
               report.unexpected.size(), " unexpected");
    return options.start_hash;
  }
  const StartWeights weights(options.init_from, options.init_set);
  if (weights.file().metadata.contains("kind")) {
    const ModelCard card = ModelCard::read(weights.file(), weights.name());
    if (card.kind != task.card().kind) {
      fail(ExitCode::kConfig, weights.name(), ": holds a ", card.kind, ", want a ",
           task.card().kind);
    }
    if (card.feature_names != task.card().feature_names) {
      fail(ExitCode::kConfig, weights.name(), ": trained on the features ",
           fmt::format("{}", fmt::join(card.feature_names, ", ")), "; the data set has ",
           fmt::format("{}", fmt::join(task.card().feature_names, ", ")));
    }
  }
  if (weights.file().find("cls_token").defined()) {
    fail(ExitCode::kConfig, weights.name(), ": holds a passt, want a ", task.card().kind);
  }
  try {
    restore_weights(weights.file().tensors, params);
  } catch (const Error& error) {
    fail(error.code(), weights.name(), ": ", error.what());
  }
  return weights.hash();
}

}  // namespace onpa::apps
