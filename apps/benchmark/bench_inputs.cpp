#include "apps/benchmark/bench_inputs.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "kernels/cpu/parallel.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

constexpr int kFeatures = 10;

// Batches of a Dense's epoch, but for large ones, of which one must do.
constexpr std::int64_t kBatches = 16, kMostRows = 1 << 18;

Philox draws(const Config& config, std::int64_t sample) {
  return Philox({.seed = static_cast<std::uint64_t>(config.train.seed),
                 .stream = kStreamTest,
                 .sample = static_cast<std::uint64_t>(sample)});
}

}  // namespace

data::DataSet made_up_data(const Config& config) {
  const bool dense = config.model.kind == "dense";
  const std::int64_t batch = config.train.batch_size;
  const std::int64_t batches = std::clamp<std::int64_t>(kMostRows / batch, 1, kBatches);
  const std::int64_t count = dense ? std::max(batches * batch, config.train.eval_batch_size) : 1;
  data::DataSet data;
  for (int i = 0; i < kFeatures; ++i) data.feature_names.push_back("feature" + std::to_string(i));
  data.card = "{}";
  data.tracks.resize(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    data::Track& track = data.tracks[static_cast<std::size_t>(i)];
    Philox random = draws(config, i);
    track.audio = "none";
    for (int j = 0; j < kFeatures; ++j) {
      track.features.push_back(static_cast<float>(random.normal()));
    }
    track.target = static_cast<float>(random.uniform() - 0.5);
  }
  return data;
}

ClipSource made_up_clips(const Config& config, std::int64_t batch_size) {
  const auto samples =
      static_cast<std::int64_t>(std::llround(config.data.seconds * config.mel_config().rate_hz));
  data::AudioBatch batch;
  batch.wave = Tensor::empty({batch_size, samples});
  kernels::parallel_for(batch_size, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t clip = begin; clip < end; ++clip) {
      Philox random = draws(config, clip);
      float* wave = batch.wave.data<float>() + clip * samples;
      for (std::int64_t i = 0; i < samples; ++i) {
        wave[i] = uniform_from_bits(random.next_u32()) - 0.5f;
      }
    }
  });
  batch.rows.resize(static_cast<std::size_t>(batch_size));
  std::iota(batch.rows.begin(), batch.rows.end(), 0);
  batch.ids.assign(batch.rows.begin(), batch.rows.end());
  return [batch, targets = draws(config, batch_size)]() mutable {
    data::AudioBatch next = batch;
    next.target = Tensor::empty({batch.wave.size(0), 1});
    for (float& target : next.target.span<float>()) {
      target = static_cast<float>(targets.uniform() - 0.5);
    }
    return next;
  };
}

double clip_seconds(const Config& config) {
  if (config.model.kind == "dense") return 0;
  if (config.data.seconds > 0) return config.data.seconds;
  const nn::PasstConfig model = config.passt();
  const audio::MelConfig mel = config.mel_config();
  const std::int64_t frames = model.patch_t + (model.table_t - 1) * model.stride_t;
  return static_cast<double>((frames - 1) * mel.hop_samples + 1) / mel.rate_hz;
}

}  // namespace onpa::apps
