// Training PaSST on decoded audio.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "apps/support/log.h"
#include "apps/support/process.h"
#include "apps/training/rare.h"
#include "apps/training/train_rows.h"
#include "apps/training/train_task.h"
#include "audio/augment.h"
#include "kernels/error.h"
#include "nn/finetune.h"
#include "tensor/ops/loss.h"

namespace onpa::apps {
namespace {

class PasstTask : public TrainTask {
 public:
  PasstTask(const Config& config, const data::DataSet& data, ClipSource clips,
            const data::Shard& shard)
      : config_(config),
        shard_(shard),
        rows_(train_rows(data, config)),
        permuted_(with_permuted_targets(data, rows_.train, config)),
        data_(permuted_ ? *permuted_ : data),
        model_(config.passt()),
        loader_(data_, rows_.train, train_options(config), shard),
        clips_(std::move(clips)) {
    ONPA_CHECK(!clips_ || shard_.size == 1, "passt: made-up clips for ", shard_.size, " ranks");
    card_.kind = "passt";
    card_.passt = config.passt();
    card_.mel = config.mel_config();
    card_.seconds = config.data.seconds;
    fit_target_scale(config, data, rows_.train, card_);
    check_lengths();
    if (const std::int64_t frozen = nn::freeze(model_, config.train.freeze); frozen > 0) {
      spdlog::info("train.freeze={}: {} of {} parameters keep their values", config.train.freeze,
                   frozen, model_.parameter_count());
    }
    model_.set_recompute(nn::recompute_of(config.train.recompute));
  }

  nn::Module& module() override { return model_; }
  void initialize(std::uint64_t seed) override { model_.initialize(seed); }
  const ModelCard& card() const override { return card_; }

  void start_epoch(std::uint64_t epoch, std::int64_t cursor, std::uint64_t draw) override {
    if (!clips_) loader_.start_epoch(epoch, cursor, draw);
  }

  // Waveforms, targets, the front end's bank and masks, and with mixup its plan.
  bool next_batch(std::uint64_t draw, HostBatch& out) override {
    data::AudioBatch batch;
    if (!read(draw, batch)) return false;
    warn_of_loader(loader_);
    out = {.samples = batch.samples,
           .total = batch.total,
           .first = batch.first,
           .cursor = batch.next_cursor};
    if (batch.samples == 0) return true;
    standardize(batch.target);
    const audio::MelInputs mel =
        audio::draw_mel_inputs(card_.mel, config_.mel_augment(), batch.wave.size(1),
                               static_cast<std::uint64_t>(config_.train.seed), draw, batch.ids);
    out.inputs = {batch.wave, batch.target, mel.bank, mel.masks};
    if (mixes(config_)) {
      const audio::MixupTensors plan = audio::to_tensors(own_mixup(batch, draw));
      out.inputs.insert(out.inputs.end(), {plan.partner, plan.weight});
    }
    return true;
  }

  // The last clips of a batch may be there as partners only; mixing leaves them out.
  Tensor loss(const std::vector<Tensor>& inputs, std::uint64_t draw, std::int64_t) override {
    const bool mixed = mixes(config_);
    const DType dtype = model_.parameters().front().tensor.dtype();
    Tensor target = inputs[1];
    Tensor mel = audio::log_mel_device(inputs[0], card_.mel, {inputs[2], inputs[3]},
                                       mixed ? DType::kF32 : dtype);
    if (mixed) {
      const audio::MixupTensors plan = {inputs[4], inputs[5]};
      mel = audio::apply_mixup(mel, plan);
      if (dtype != DType::kF32) mel = mel.to(dtype);
      target = audio::apply_mixup(target, plan);
    }
    const nn::Patchout patchout = {.time = config_.train.patchout_time,
                                   .freq = config_.train.patchout_freq,
                                   .unstructured = config_.train.patchout_unstructured};
    const nn::Passt::Output out =
        model_.forward(mel, patchout, static_cast<std::uint64_t>(config_.train.seed), draw);
    return ops::loss(out.logits, target, config_.loss(),
                     static_cast<float>(config_.train.huber_delta));
  }

  std::int64_t batches_per_epoch() const override { return loader_.batches_per_epoch(); }
  std::int64_t samples_per_epoch() const override { return loader_.items_per_epoch(); }

  std::vector<TrackPrediction> predict_held_out(const StopCheck& stop) override {
    data::LoaderOptions options = loader_options(config_);
    options.batch_size = config_.train.eval_batch_size;
    // One list for all evaluations: each can meet the same tracks, or be stopped before them.
    return predict_rows(model_, card_, data_, rows_.evaluation, options, stop, &unread_, shard_);
  }

  std::vector<data::BadTrack> bad_tracks() const override {
    std::vector<data::BadTrack> bad = loader_.bad_tracks();
    bad.insert(bad.end(), unread_.begin(), unread_.end());
    return bad;
  }
  std::vector<data::DecodeTime> slowest_tracks() const override { return loader_.slowest(); }
  double wait_seconds() const override { return loader_.wait_seconds(); }
  const std::string& evaluated() const override { return rows_.evaluated; }

 private:
  void standardize(const Tensor& target) const {
    for (float& t : target.span<float>()) {
      t = static_cast<float>((static_cast<double>(t) - card_.target_mean) / card_.target_std);
    }
  }

  static bool mixes(const Config& config) { return config.data.mixup_alpha > 0; }

  static audio::MixupPlan draw_mixup(const Config& config, std::int64_t total, std::uint64_t draw) {
    return audio::draw_mixup(total, static_cast<float>(config.data.mixup_alpha),
                             static_cast<std::uint64_t>(config.train.seed), draw);
  }

  // The plan of the whole batch, for the clips that this rank has of it.
  audio::MixupPlan own_mixup(const data::AudioBatch& batch, std::uint64_t draw) const {
    const audio::MixupPlan plan = draw_mixup(config_, batch.total, draw);
    if (shard_.size == 1) return plan;
    audio::MixupPlan own;
    const auto weight = plan.weight.begin() + batch.first;
    own.weight.assign(weight, weight + batch.samples);
    own.partner.resize(own.weight.size());
    std::iota(own.partner.begin(), own.partner.end(), static_cast<std::int32_t>(batch.samples));
    return own;
  }

  data::LoaderOptions train_options(const Config& config) const {
    data::LoaderOptions options = loader_options(config);
    if (config.data.rare == "mixup") options.items = rare_items(data_, rows_.train, config);
    if (mixes(config)) {
      options.partners = [config](std::int64_t total, std::uint64_t draw) {
        return draw_mixup(config, total, draw).partner;
      };
    }
    return options;
  }

  bool read(std::uint64_t draw, data::AudioBatch& batch) {
    if (clips_) {
      batch = clips_();
      batch.samples = batch.total = batch.wave.size(0);
      return true;
    }
    if (!loader_.next(batch)) return false;
    // The loader has taken the partners of that number.
    ONPA_CHECK(shard_.size == 1 || batch.draw == draw, "passt: draw ", draw, ", want ", batch.draw);
    return true;
  }

  // A clip length that the time table does not cover, or a patchout that leaves nothing.
  void check_lengths() const {
    if (config_.data.seconds == 0) return;
    const auto samples =
        static_cast<std::int64_t>(std::llround(config_.data.seconds * card_.mel.rate_hz));
    const std::int64_t frames = card_.mel.frames(samples);
    if (frames < card_.passt.patch_t) {
      fail(ExitCode::kConfig, "data.seconds is ", config_.data.seconds, ": ", frames,
           " mel frames, want at least ", card_.passt.patch_t);
    }
    const std::int64_t grid_t = card_.passt.grid_t(frames);
    if (grid_t > card_.passt.table_t) {
      spdlog::warn("clips of {} s give {} patch columns, the time table covers {}: the rest is cut",
                   config_.data.seconds, grid_t, card_.passt.table_t);
    }
    try {
      nn::draw_patchout({.time = config_.train.patchout_time,
                         .freq = config_.train.patchout_freq,
                         .unstructured = config_.train.patchout_unstructured},
                        card_.passt.grid_f(), std::min(grid_t, card_.passt.table_t), 0, 0);
    } catch (const Error& error) {
      fail(error.code(), error.what(), " for clips of ", config_.data.seconds,
           " s: set train.patchout_time, train.patchout_freq and train.patchout_unstructured");
    }
  }

  Config config_;
  data::Shard shard_;
  TrainRows rows_;
  std::optional<data::DataSet> permuted_;
  const data::DataSet& data_;
  nn::Passt model_;
  ModelCard card_;
  data::AudioLoader loader_;
  ClipSource clips_;  // in its place, if there is one
  std::vector<data::BadTrack> unread_;
};

}  // namespace

data::LoaderOptions loader_options(const Config& c) {
  data::LoaderOptions o;
  o.batch_size = c.train.batch_size;
  o.seconds = c.data.seconds;
  o.seed = static_cast<std::uint64_t>(c.train.seed);
  o.workers = static_cast<int>(c.loader.workers);
  o.prefetch_batches = static_cast<int>(c.loader.prefetch_batches);
  o.gain_low_db = static_cast<int>(c.data.gain_low_db);
  o.gain_high_db = static_cast<int>(c.data.gain_high_db);
  o.roll_samples = c.data.roll_samples;
  o.wave_mixup_probability = static_cast<float>(c.data.wave_mixup);
  o.max_bad_fraction = c.data.max_bad_fraction;
  o.cache_folder = c.loader.cache_folder;
  o.cache_bytes = static_cast<std::uint64_t>(c.loader.cache_gib * (1 << 30));
  if (c.loader.decode_process) o.decoder.command = decoder_command();
  // A file that is given up in time is no stall.
  o.decoder.seconds = c.loader.decode_seconds;
  if (c.train.stall_seconds > 0) {
    o.decoder.seconds = std::min(o.decoder.seconds, 0.8 * c.train.stall_seconds);
  }
  o.decoder.max_bytes = static_cast<std::uint64_t>(c.loader.decode_gib * (1 << 30));
  return o;
}

void fit_target_scale(const Config& config, const data::DataSet& data,
                      const std::vector<std::int64_t>& rows, ModelCard& card) {
  if (!config.data.standardize_target || rows.empty()) return;
  const auto n = static_cast<double>(rows.size());
  double sum = 0, squares = 0;
  for (const std::int64_t row : rows) sum += data.tracks[static_cast<std::size_t>(row)].target;
  card.target_mean = sum / n;
  for (const std::int64_t row : rows) {
    const double d = data.tracks[static_cast<std::size_t>(row)].target - card.target_mean;
    squares += d * d;
  }
  card.target_std = squares > 0 ? std::sqrt(squares / n) : 1;
}

std::unique_ptr<TrainTask> make_passt_task(const Config& config, const data::DataSet& data,
                                           ClipSource clips, const data::Shard& shard) {
  return std::make_unique<PasstTask>(config, data, std::move(clips), shard);
}

}  // namespace onpa::apps
