// The settings of a training run. config_table.cpp holds the one table of them: name, type, range,
// choices and meaning; a key that the table lacks is an error wherever it comes from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "audio/mel.h"
#include "kernels/loss.h"
#include "nn/dense.h"
#include "nn/optim.h"
#include "nn/passt.h"
#include "nn/schedule.h"

namespace onpa::apps {

using IntList = std::vector<std::int64_t>;

struct ModelSettings {
  std::string kind;  // passt | dense
  std::string preset;
  std::string time_table = "cut";  // passt, of given weights and longer clips: cut | interpolate
  // passt: 0 takes the preset's value
  std::int64_t depth = 0, width = 0, heads = 0, mlp = 0;
  std::int64_t patch_f = 0, patch_t = 0, stride_f = 0, stride_t = 0, table_t = 0;
  // dense
  IntList hidden = {256, 256, 128};
  double dropout = 0;
  std::string activation = "relu";
};

struct MelSettings {
  std::int64_t mels = 0;  // 0 takes the preset's value
  std::int64_t win_samples = 800, hop_samples = 320;
  double fmin_hz = 0, fmax_hz = 15000;
  std::int64_t fmin_range_hz = 0, fmax_range_hz = 0, freq_mask = 0, time_mask = 0;
};

struct DataSettings {
  double seconds = 0;
  std::int64_t gain_low_db = 0, gain_high_db = 0, roll_samples = 0;
  double wave_mixup = 0, mixup_alpha = 0;
  bool standardize_target = true;
  double validation = 0;
  double max_bad_fraction = 0.01;
  bool undersampled = true, permute_targets = false;
  std::string rare = "none";
  double rare_threshold = 0.5, rare_perturbation = 0.02;
  std::int64_t rare_neighbours = 5;
};

struct LoaderSettings {
  std::int64_t workers = 2, prefetch_batches = 4;
  std::string cache_folder;
  double cache_gib = 20;
  bool decode_process = true;
  double decode_seconds = 60, decode_gib = 4;
};

struct TrainSettings {
  std::int64_t epochs = 10, max_steps = 0, batch_size = 8, accumulate = 1, eval_batch_size = 16;
  double lr = 1e-5;
  std::string precision = "auto";  // on the GPU (auto: passt bf16, dense f32); the CPU has f32 only
  bool gemm_tuning = false;        // on the GPU
  bool shard_optimizer = false;    // over several ranks
  std::string loss = "mse";
  double huber_delta = 1;
  std::int64_t seed = 1;
  std::int64_t patchout_time = 0, patchout_freq = 0, patchout_unstructured = 0;
  std::string recompute = "none";
  std::string freeze = "none";  // passt
  std::int64_t checkpoint_steps = 0, checkpoint_epochs = 1, keep = 3;
  std::int64_t log_steps = 10, eval_epochs = 1;
  std::int64_t max_nonfinite = 10;
  double stall_seconds = 300;
  std::int64_t hash_steps = 100;
};

struct OptimSettings {
  std::string kind = "adamw";
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 1e-4;
  double momentum = 0.9;
  bool nesterov = true;
  double clip_norm = 0;
  double layer_decay = 1, head_lr_scale = 1;  // passt
};

struct ScheduleSettings {
  std::string kind = "constant";
  double warmup_epochs = 0, total_epochs = 0, floor = 0.01, ramp_start = 50, ramp_epochs = 50;
};

struct AverageSettings {
  std::string kind = "none";
  double ema_decay = 0.999;
  std::int64_t swa_start_epoch = 1, swa_every_epochs = 1;
};

struct Config {
  ModelSettings model;
  MelSettings mel;
  DataSettings data;
  LoaderSettings loader;
  TrainSettings train;
  OptimSettings optim;
  ScheduleSettings schedule;
  AverageSettings average;

  nn::PasstConfig passt() const;  // model.* and mel.mels; one output
  nn::DenseConfig dense(std::int64_t inputs) const;
  audio::MelConfig mel_config() const;
  audio::MelAugment mel_augment() const;
  nn::OptimizerConfig optimizer() const;
  nn::ScheduleConfig lr_schedule() const;
  kernels::LossKind loss() const;
};

/// One row of the table, bound to a Config.
struct Setting {
  std::string key;  // "train.lr"
  std::variant<bool*, std::int64_t*, double*, std::string*, IntList*> value;
  double low = 0, high = 0;          // numbers (each element of a list): [low, high]
  std::vector<std::string> choices;  // texts; empty: any
  std::string doc;
};
std::vector<Setting> settings_of(Config& config);

/// Where settings come from, in rising priority: the defaults of `kind` ("passt" or "dense"), the
/// TOML file, the environment's ONPA_<SECTION>_<KEY>, then `set` ("section.key=value").
/// Zeros that stand for "the preset's value" or "as train.epochs" are filled in. Throws Error
/// (kConfig) for an unknown key (with the nearest one), a wrong type or a value out of range,
/// naming file:line:column, variable or option; kInputMissing if there is no such file.
/// `given`, if there, gets the keys that file, environment or `set` named.
Config load_config(const std::string& kind, const std::filesystem::path& file,
                   const std::vector<std::string>& set, std::vector<std::string>* given = nullptr);

/// `asked`, which has the given settings, on other defaults: those of `preset`, then the given
/// ones, then `values` (keys and texts), which come from `origin`. Throws as load_config().
Config rebase(const Config& asked, const std::vector<std::string>& given, const std::string& preset,
              const std::vector<std::pair<std::string, std::string>>& values,
              const std::string& origin);

/// All settings as TOML; load_config of this text gives the same Config and the same text.
std::string to_toml(const Config& config);
/// Reads what to_toml wrote (or any TOML file) on top of the defaults of `kind`.
Config parse_toml(const std::string& kind, const std::string& text, const std::string& name);

/// A setting's value as TOML writes it. Throws std::out_of_range for an unknown key.
std::string value_text(const Config& config, const std::string& key);

/// Keys whose values differ.
std::vector<std::string> changed_keys(const Config& a, const Config& b);

/// The table as text for people: key, default of PaSST (and of Dense where it differs), range,
/// meaning.
std::string describe_settings();

}  // namespace onpa::apps
