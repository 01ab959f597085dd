// The table of all settings, and what the settings mean to the layers below.
#include <fmt/format.h>

#include <limits>
#include <utility>

#include "apps/support/config.h"
#include "kernels/error.h"
#include "nn/finetune.h"

namespace onpa::apps {
namespace {

constexpr double kMaxCount = 1e15;

class TableBuilder {
 public:
  explicit TableBuilder(std::vector<Setting>& out) : out_(out) {}
  void section(const std::string& name) { section_ = name; }
  // A number or a list of them.
  template <class T>
  void number(const char* key, T& v, double low, double high, std::string doc) {
    out_.push_back({section_ + "." + key, &v, low, high, {}, std::move(doc)});
  }
  void preset_size(const char* key, std::int64_t& v, double high, const std::string& doc) {
    number(key, v, 0, high, doc + "; 0 takes the preset's");
  }
  void flag(const char* key, bool& v, const char* doc) {
    out_.push_back({section_ + "." + key, &v, 0, 0, {}, doc});
  }
  void text(const char* key, std::string& v, std::vector<std::string> choices, const char* doc) {
    out_.push_back({section_ + "." + key, &v, 0, 0, std::move(choices), doc});
  }

 private:
  std::vector<Setting>& out_;
  std::string section_;
};

void add_model(TableBuilder& t, ModelSettings& m) {
  t.section("model");
  t.text("kind", m.kind, {"passt", "dense"}, "which model; `onpa train` sets it");
  std::vector<std::string> presets = nn::PasstConfig::preset_names();
  presets.emplace_back("dense");
  t.text("preset", m.preset, std::move(presets),
         "sizes to start from; passt-xs is for tests and the demo");
  t.text(
      "time_table", m.time_table, {"cut", "interpolate"},
      "passt, --init-from: what clips that are longer than the weights' time table get: the part "
      "that it covers, or a table stretched to their length");
  t.preset_size("depth", m.depth, 128, "passt: blocks");
  t.preset_size("width", m.width, 16384, "passt: channels");
  t.preset_size("heads", m.heads, 512, "passt: attention heads");
  t.preset_size("mlp", m.mlp, 65536, "passt: hidden width of a block");
  t.preset_size("patch_f", m.patch_f, 1024, "passt: patch height in mels");
  t.preset_size("patch_t", m.patch_t, 1024, "passt: patch width in frames");
  t.preset_size("stride_f", m.stride_f, 1024, "passt: patch stride in mels");
  t.preset_size("stride_t", m.stride_t, 1024, "passt: patch stride in frames");
  t.preset_size("table_t", m.table_t, 100000, "passt: columns of the time table");
  t.number("hidden", m.hidden, 1, 1 << 20, "dense: widths of the hidden layers");
  t.number("dropout", m.dropout, 0, 0.99, "dense: share of hidden units dropped in training");
  t.text("activation", m.activation, {"relu", "gelu"}, "dense: after each hidden layer");
}

void add_input(TableBuilder& t, MelSettings& m, DataSettings& d, LoaderSettings& l) {
  t.section("mel");
  t.preset_size("mels", m.mels, 1024, "mel bands");
  t.number("win_samples", m.win_samples, 1, 1024, "window length");
  t.number("hop_samples", m.hop_samples, 1, 100000, "samples between frames");
  t.number("fmin_hz", m.fmin_hz, 0, 16000, "lower edge of the lowest band");
  t.number("fmax_hz", m.fmax_hz, 1, 16000, "upper edge of the highest band");
  t.number("fmin_range_hz", m.fmin_range_hz, 0, 16000, "training: fmin + {0 .. range - 1}");
  t.number("fmax_range_hz", m.fmax_range_hz, 0, 16000,
           "training: fmax + range / 2 - {0 .. range - 1}");
  t.number("freq_mask", m.freq_mask, 0, 1024, "training: widest frequency mask + 1");
  t.number("time_mask", m.time_mask, 0, 100000, "training: widest time mask + 1");
  t.section("data");
  t.number("seconds", d.seconds, 0, 1800,
           "clip length; 0: whole clips, in training padded to the longest of a batch");
  t.number("gain_low_db", d.gain_low_db, -60, 60, "training: random gain from");
  t.number("gain_high_db", d.gain_high_db, -60, 60, "training: random gain to");
  t.number("roll_samples", d.roll_samples, 0, kMaxCount, "training: random rotation up to");
  t.number("wave_mixup", d.wave_mixup, 0, 1, "training: share of clips mixed with another");
  t.number("mixup_alpha", d.mixup_alpha, 0, 100,
           "training: spectrogram mixup with Beta(alpha, alpha); 0: none");
  t.flag("standardize_target", d.standardize_target,
         "the model learns (target - mean) / std of the train split");
  t.number(
      "validation", d.validation, 0, 0.5,
      "share of the train split that is not trained on and measured instead of the test split; "
      "0: none");
  t.number("max_bad_fraction", d.max_bad_fraction, 0, 1,
           "share of unreadable tracks above which a run stops");
  t.flag("undersampled", d.undersampled,
         "train on what undersampling left of the train split; false: on all of it");
  t.flag("permute_targets", d.permute_targets,
         "a control: the train tracks exchange their targets, so that there is nothing to learn");
  t.text("rare", d.rare, {"none", "smogn", "mixup"},
         "more of the rare targets to train on: smogn makes feature vectors (dense), mixup mixes "
         "clips (passt)");
  t.number("rare_threshold", d.rare_threshold, 0.001, 1,
           "relevance from which on a target is rare");
  t.number("rare_neighbours", d.rare_neighbours, 1, 1000,
           "smogn: nearest rows, mixup: nearest targets on each side, that one is combined with");
  t.number("rare_perturbation", d.rare_perturbation, 0, 10,
           "smogn: largest noise, in standard deviations");
  t.section("loader");
  t.number("workers", l.workers, 0, 256, "decoding threads; 0: decode between steps");
  t.number("prefetch_batches", l.prefetch_batches, 1, 1024, "batches decoded ahead");
  t.text("cache_folder", l.cache_folder, {}, "keeps decoded audio there; empty: no cache");
  t.number("cache_gib", l.cache_gib, 0, 1e6, "size limit of the cache");
  t.flag(
      "decode_process", l.decode_process,
      "decode in processes of their own: a crash, a hang or too much memory costs only the file");
  t.number("decode_seconds", l.decode_seconds, 0.1, 86400,
           "after which a file that is still being decoded is given up (at most 0.8 of "
           "train.stall_seconds)");
  t.number("decode_gib", l.decode_gib, 0, 1e6, "address space of a decoder; 0: no limit");
}

void add_train(TableBuilder& t, TrainSettings& s) {
  t.section("train");
  t.number("epochs", s.epochs, 0, kMaxCount, "passes over the train split");
  t.number("max_steps", s.max_steps, 0, kMaxCount, "stop after this many steps; 0: no limit");
  t.number("batch_size", s.batch_size, 1, 1 << 24, "samples of one forward pass");
  t.number("accumulate", s.accumulate, 1, 1 << 20, "forward passes of one step");
  t.number("eval_batch_size", s.eval_batch_size, 1, 1 << 24, "samples of one evaluation pass");
  t.number("lr", s.lr, 0, 10, "peak learning rate");
  t.text("precision", s.precision, {"auto", "f32", "bf16"},
         "what a GPU computes in (auto: passt bf16, dense f32); the CPU always in f32");
  t.flag("gemm_tuning", s.gemm_tuning,
         "time ways to multiply matrices on a GPU and keep the fastest; runs may then differ in "
         "their last bits");
  t.flag("shard_optimizer", s.shard_optimizer,
         "several ranks: each keeps the optimizer's moments of a part of the weights alone");
  t.text("loss", s.loss, {"mse", "l1", "huber"}, "what is minimised");
  t.number("huber_delta", s.huber_delta, 1e-9, 1e9, "threshold of the Huber loss");
  t.number("seed", s.seed, 0, 9e15, "of initialisation, order, augmentation and dropout");
  t.number("patchout_time", s.patchout_time, 0, 100000, "passt: patch columns left out");
  t.number("patchout_freq", s.patchout_freq, 0, 1024, "passt: patch rows left out");
  t.number("patchout_unstructured", s.patchout_unstructured, 0, kMaxCount,
           "passt: single patches left out");
  t.text("recompute", s.recompute, nn::recompute_names(),
         "passt: what backward works out again to need less memory; the bits stay the same");
  t.text("freeze", s.freeze, {},
         "passt: what keeps its weights: none, embed, body (all but the head), or beginnings of "
         "parameters' names: blocks.0,blocks.1,patch_embed");
  t.number("checkpoint_steps", s.checkpoint_steps, 0, kMaxCount,
           "steps between checkpoints; 0: none within an epoch");
  t.number("checkpoint_epochs", s.checkpoint_epochs, 0, kMaxCount,
           "epochs between checkpoints; 0: none but the last");
  t.number("keep", s.keep, 1, 1 << 20, "checkpoints kept");
  t.number("log_steps", s.log_steps, 1, kMaxCount, "steps between lines of metrics");
  t.number(
      "eval_epochs", s.eval_epochs, 0, kMaxCount,
      "epochs between evaluations on the test split or data.validation; 0: after the last only");
  t.number("max_nonfinite", s.max_nonfinite, 1, kMaxCount,
           "steps in a row with a loss that is not finite, after which a run has diverged");
  t.number("stall_seconds", s.stall_seconds, 0, 1e9,
           "a run that gets nowhere for so long ends; 0: never");
  t.number("hash_steps", s.hash_steps, 0, kMaxCount,
           "several ranks: steps between comparisons of their weights; 0: at checkpoints only");
}

void add_optim(TableBuilder& t, OptimSettings& o, ScheduleSettings& s, AverageSettings& a) {
  t.section("optim");
  t.text("kind", o.kind, {"adamw", "sgd"}, "update rule");
  t.number("beta1", o.beta1, 0, 0.999999, "adamw: decay of the first moment");
  t.number("beta2", o.beta2, 0, 0.9999999, "adamw: decay of the second moment");
  t.number("eps", o.eps, 1e-20, 1, "adamw: added to the root of the second moment");
  t.number("weight_decay", o.weight_decay, 0, 10, "adamw: decoupled; sgd: L2");
  t.number("momentum", o.momentum, 0, 0.999999, "sgd");
  t.flag("nesterov", o.nesterov, "sgd");
  t.number("clip_norm", o.clip_norm, 0, 1e12, "largest gradient norm; 0: no clipping");
  t.number("layer_decay", o.layer_decay, 0.001, 1,
           "passt: learning rate of a block as a part of that of the next; 1: all the same");
  t.number("head_lr_scale", o.head_lr_scale, 0, 1e6, "passt: learning rate of the head, times lr");
  t.section("schedule");
  t.text("kind", s.kind, {"constant", "linear", "cosine", "passt"}, "of the learning rate");
  t.number("warmup_epochs", s.warmup_epochs, 0, 1e9, "rising from 0");
  t.number("total_epochs", s.total_epochs, 0, 1e9, "linear, cosine: end; 0: train.epochs");
  t.number("floor", s.floor, 0, 1, "final multiplier");
  t.number("ramp_start", s.ramp_start, 0, 1e9, "passt: epoch at which it starts to fall");
  t.number("ramp_epochs", s.ramp_epochs, 1e-9, 1e9, "passt: epochs until `floor`");
  t.section("average");
  t.text("kind", a.kind, {"none", "ema", "swa"}, "of the weights, for evaluation");
  t.number("ema_decay", a.ema_decay, 0, 0.99999999, "ema: per step");
  t.number("swa_start_epoch", a.swa_start_epoch, 1, 1e9, "swa: first epoch whose end counts");
  t.number("swa_every_epochs", a.swa_every_epochs, 1, 1e9, "swa: epochs between samples");
}

// 0 leaves the preset's size.
void set_size(std::int64_t& size, std::int64_t setting) {
  if (setting != 0) size = setting;
}

}  // namespace

std::vector<Setting> settings_of(Config& c) {
  std::vector<Setting> out;
  TableBuilder table(out);
  add_model(table, c.model);
  add_input(table, c.mel, c.data, c.loader);
  add_train(table, c.train);
  add_optim(table, c.optim, c.schedule, c.average);
  return out;
}

nn::PasstConfig Config::passt() const {
  nn::PasstConfig p = nn::PasstConfig::preset(model.preset);
  set_size(p.mels, mel.mels);
  set_size(p.patch_f, model.patch_f);
  set_size(p.patch_t, model.patch_t);
  set_size(p.stride_f, model.stride_f);
  set_size(p.stride_t, model.stride_t);
  set_size(p.table_t, model.table_t);
  set_size(p.width, model.width);
  set_size(p.heads, model.heads);
  set_size(p.depth, model.depth);
  set_size(p.mlp, model.mlp);
  p.outputs = 1;
  p.head_dist = false;
  return p;
}

nn::DenseConfig Config::dense(std::int64_t inputs) const {
  nn::DenseConfig d;
  d.inputs = inputs;
  d.hidden = model.hidden;
  d.outputs = 1;
  d.activation =
      model.activation == "gelu" ? kernels::Activation::kGelu : kernels::Activation::kRelu;
  d.dropout = static_cast<float>(model.dropout);
  return d;
}

audio::MelConfig Config::mel_config() const {
  audio::MelConfig m;
  m.mels = static_cast<int>(mel.mels);
  m.win_samples = static_cast<int>(mel.win_samples);
  m.hop_samples = static_cast<int>(mel.hop_samples);
  m.fmin_hz = static_cast<float>(mel.fmin_hz);
  m.fmax_hz = static_cast<float>(mel.fmax_hz);
  return m;
}

audio::MelAugment Config::mel_augment() const {
  return {.fmin_range_hz = static_cast<int>(mel.fmin_range_hz),
          .fmax_range_hz = static_cast<int>(mel.fmax_range_hz),
          .freq_mask = static_cast<int>(mel.freq_mask),
          .time_mask = static_cast<int>(mel.time_mask)};
}

nn::OptimizerConfig Config::optimizer() const {
  nn::OptimizerConfig out = {.kind = optim.kind,
                             .beta1 = optim.beta1,
                             .beta2 = optim.beta2,
                             .eps = static_cast<float>(optim.eps),
                             .weight_decay = static_cast<float>(optim.weight_decay),
                             .momentum = static_cast<float>(optim.momentum),
                             .nesterov = optim.nesterov,
                             .clip_norm = static_cast<float>(optim.clip_norm)};
  if (optim.layer_decay == 1 && optim.head_lr_scale == 1) return out;
  out.rate_scale = [decay = optim.layer_decay, head = optim.head_lr_scale,
                    depth = passt().depth](const std::string& name) {
    return nn::layer_rate(name, depth, decay, head);
  };
  return out;
}

kernels::LossKind Config::loss() const {
  if (train.loss == "l1") return kernels::LossKind::kL1;
  if (train.loss == "huber") return kernels::LossKind::kHuber;
  return kernels::LossKind::kMse;
}

nn::ScheduleConfig Config::lr_schedule() const {
  return {.kind = schedule.kind,
          .warmup_epochs = schedule.warmup_epochs,
          .total_epochs = schedule.total_epochs,
          .floor = schedule.floor,
          .ramp_start = schedule.ramp_start,
          .ramp_epochs = schedule.ramp_epochs};
}

}  // namespace onpa::apps
