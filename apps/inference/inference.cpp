#include "apps/inference/inference.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <utility>

#include "apps/support/log.h"
#include "apps/support/suggest.h"
#include "audio/mel.h"
#include "data/loader_bad.h"
#include "kernels/error.h"
#include "tensor/autograd.h"

namespace onpa::apps {
namespace {

// Evaluation mode while it lives.
class EvalMode {
 public:
  explicit EvalMode(nn::Module& module) : module_(module), was_(module.training()) {
    module_.train(false);
  }
  ~EvalMode() { module_.train(was_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  nn::Module& module_;
  bool was_;
};

void collect(const Tensor& logits, const ModelCard& card, const data::DataSet& data,
             std::span<const std::int64_t> rows, std::vector<TrackPrediction>& out) {
  const std::int64_t outputs = logits.size(1);
  const float* logit = logits.data<float>();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double value = static_cast<double>(logit[static_cast<std::int64_t>(i) * outputs]);
    out.push_back({rows[i], data.tracks[static_cast<std::size_t>(rows[i])].target,
                   static_cast<float>(value * card.target_std + card.target_mean)});
  }
}

// Batches of whole clips, each of one length: padding would let a clip's neighbours into its
// spectrogram and its tokens.
class EqualLengthBatches {
 public:
  EqualLengthBatches(data::AudioLoader& clips, std::int64_t capacity, std::int64_t shortest)
      : clips_(clips), capacity_(capacity), shortest_(shortest) {}

  bool next(data::AudioBatch& out) {
    std::vector<Tensor> waves;
    out.rows.clear();
    while (std::ssize(waves) < capacity_ && (waiting_ || read())) {
      if (!waves.empty() && clip_.wave.size(1) != waves.front().size(1)) break;
      waves.push_back(clip_.wave);
      out.rows.push_back(clip_.rows.front());
      waiting_ = false;
    }
    if (waves.empty()) return false;
    out.wave = Tensor::empty({std::ssize(waves), waves.front().size(1)});
    for (std::int64_t i = 0; i < std::ssize(waves); ++i) {
      out.wave.slice(i, i + 1).copy_from(waves[static_cast<std::size_t>(i)]);
    }
    return true;
  }

 private:
  bool read() {
    if (!clips_.next(clip_)) return false;
    if (const std::int64_t length = clip_.wave.size(1); length < shortest_) {
      const Tensor padded = Tensor::zeros({1, shortest_});
      std::copy_n(clip_.wave.data<float>(), length, padded.data<float>());
      clip_.wave = padded;
    }
    return waiting_ = true;
  }

  data::AudioLoader& clips_;
  std::int64_t capacity_, shortest_;
  data::AudioBatch clip_;  // read ahead: of another length than the batch before it
  bool waiting_ = false;
};

// Evaluates batches, in parts where there is no memory for a whole one: a run must not end for
// its evaluation, whose batch size nothing depends on.
class PartedForward {
 public:
  /// forward(x), f32 on the CPU, for all rows of x.
  template <class Forward>
  Tensor operator()(const Tensor& x, Forward&& forward) {
    const std::int64_t rows = x.size(0);
    std::vector<Tensor> parts;
    for (std::int64_t done = 0; done < rows;) {
      const std::int64_t count = std::min(fits_, rows - done);
      try {
        parts.push_back(forward(x.slice(done, done + count)));
        done += count;
      } catch (const Error& error) {
        if (error.code() != ExitCode::kOutOfMemory || count == 1) throw;
        fits_ = count / 2;
        spdlog::warn("no memory to evaluate {} samples at once; trying {}", count, fits_);
      }
    }
    if (parts.size() == 1) return parts.front();
    Tensor out = Tensor::empty(parts.front().shape().with(0, rows));
    std::int64_t at = 0;
    for (const Tensor& part : parts) {
      out.slice(at, at + part.size(0)).copy_from(part);
      at += part.size(0);
    }
    return out;
  }

 private:
  std::int64_t fits_ = std::numeric_limits<std::int64_t>::max();
};

// Where each of the card's features stands in a track.
std::vector<std::size_t> feature_positions(const ModelCard& card, const data::DataSet& data) {
  std::vector<std::size_t> out;
  for (const std::string& name : card.feature_names) {
    const auto found = std::find(data.feature_names.begin(), data.feature_names.end(), name);
    if (found == data.feature_names.end()) {
      fail(ExitCode::kConfig, "the model was trained on the feature '", name,
           "', which the data set lacks", suggestion(name, data.feature_names));
    }
    out.push_back(static_cast<std::size_t>(found - data.feature_names.begin()));
  }
  return out;
}

constexpr std::int64_t kShortestMelSamples = 515;  // under it the front end cannot reflect

void sort_by_row(std::vector<TrackPrediction>& predictions) {
  std::ranges::sort(predictions, {}, &TrackPrediction::row);
}

// What predict(rows) of each rank's part of `rows` gives, put together. No rank leaves before all
// know whether one failed.
template <class Predict>
std::vector<TrackPrediction> predict_parts(const data::DataSet& data, const data::Shard& shard,
                                           const std::vector<std::int64_t>& rows,
                                           Predict&& predict) {
  const data::Range part = shard.part(std::ssize(rows));
  std::vector<double> own;
  std::exception_ptr error;
  try {
    const auto predictions =
        predict(std::vector(rows.begin() + part.begin, rows.begin() + part.end));
    for (const TrackPrediction& p : predictions) {
      own.insert(own.end(), {static_cast<double>(p.row), static_cast<double>(p.prediction)});
    }
  } catch (...) {
    error = std::current_exception();
  }
  double failed = error ? shard.size - shard.rank : 0;
  shard.all_max({&failed, 1});
  if (error) std::rethrow_exception(error);
  if (failed > 0) {
    fail(ExitCode::kStopped, "evaluation: rank ", shard.size - static_cast<int>(failed),
         " failed and says why");
  }
  const std::vector<double> all = shard.all_gather(own);
  std::vector<TrackPrediction> out;
  for (std::size_t i = 0; i + 1 < all.size(); i += 2) {
    const auto row = static_cast<std::int64_t>(all[i]);
    out.push_back(
        {row, data.tracks[static_cast<std::size_t>(row)].target, static_cast<float>(all[i + 1])});
  }
  return out;
}

// By one rank; `bad` gets the tracks that cannot be read, even if there are too many.
std::vector<TrackPrediction> predict_clips(nn::Passt& model, const ModelCard& card,
                                           const data::DataSet& data,
                                           std::vector<std::int64_t> rows,
                                           const data::LoaderOptions& options,
                                           const StopCheck& stop,
                                           std::vector<data::BadTrack>& bad) {
  std::vector<TrackPrediction> out;
  if (rows.empty()) return out;
  data::LoaderOptions eval = options;
  eval.train = false;
  eval.shuffle = false;
  eval.drop_last = false;
  eval.seconds = card.seconds;
  const bool whole_clips = card.seconds == 0;
  if (whole_clips) {
    eval.batch_size = 1;
    eval.prefetch_batches *= static_cast<int>(options.batch_size);
  }
  data::AudioLoader loader(data, std::move(rows), eval);
  loader.start_epoch(0);
  EqualLengthBatches whole(loader, options.batch_size, shortest_samples(card));
  data::AudioBatch batch;
  try {
    PartedForward forward;
    while (!(stop && stop()) && (whole_clips ? whole.next(batch) : loader.next(batch))) {
      const Tensor logits =
          forward(batch.wave, [&](const Tensor& wave) { return logits_of(model, card, wave); });
      collect(logits, card, data, batch.rows, out);
    }
  } catch (...) {
    bad = loader.bad_tracks();
    throw;
  }
  bad = loader.bad_tracks();
  warn_of_loader(loader);
  return out;
}

// By all ranks. What is too bad for the rows of one may not be too bad for all.
std::vector<TrackPrediction> predict_clips(nn::Passt& model, const ModelCard& card,
                                           const data::DataSet& data, const data::Shard& shard,
                                           const std::vector<std::int64_t>& rows,
                                           const data::LoaderOptions& options,
                                           const StopCheck& stop,
                                           std::vector<data::BadTrack>& bad) {
  data::LoaderOptions any_bad = options;
  any_bad.max_bad_fraction = 1;
  std::vector<TrackPrediction> out =
      predict_parts(data, shard, rows, [&](std::vector<std::int64_t> own) {
        return predict_clips(model, card, data, std::move(own), any_bad, stop, bad);
      });
  std::vector<data::MetBad> met;
  for (data::BadTrack& track : std::exchange(bad, {})) met.push_back({track.row, track});
  for (data::MetBad& one : gather_bad(shard, met)) bad.push_back(std::move(one.track));
  data::BadList(std::ssize(rows), options.max_bad_fraction).note(std::vector(bad));
  return out;
}

}  // namespace

Tensor logits_of(nn::Passt& model, const ModelCard& card, const Tensor& wave) {
  const NoGrad no_grad;
  const EvalMode eval_mode(model);
  const DeviceKind device = model.parameters().front().tensor.device();
  const Tensor mel = for_model(audio::log_mel(wave.to(device), card.mel), model);
  return on_host(model.forward(mel).logits);
}

Tensor logits_of(nn::Dense& model, const Tensor& features) {
  const NoGrad no_grad;
  const EvalMode eval_mode(model);
  return on_host(model.forward(for_model(features, model)));
}

std::int64_t shortest_samples(const ModelCard& card) {
  return std::max(kShortestMelSamples, (card.passt.patch_t - 1) * card.mel.hop_samples + 1);
}

void warn_of_loader(const data::AudioLoader& loader) {
  static std::atomic<bool> said_cache = false, said_decoder = false;
  const auto warn = [](std::atomic<bool>& said, const char* text, const std::string& problem) {
    if (!problem.empty() && !said.exchange(true)) spdlog::warn(fmt::runtime(text), problem);
  };
  warn(said_cache, "PCM cache: {}; what is not cached is decoded each time",
       loader.cache_problem());
  warn(said_decoder, "{}; files are decoded in this process, which ends if a decoder crashes",
       loader.decoder_problem());
}

std::vector<TrackPrediction> predict_rows(nn::Passt& model, const ModelCard& card,
                                          const data::DataSet& data, std::vector<std::int64_t> rows,
                                          const data::LoaderOptions& options, const StopCheck& stop,
                                          std::vector<data::BadTrack>* unread,
                                          const data::Shard& shard) {
  if (rows.empty()) return {};
  const std::size_t count = rows.size();
  std::vector<data::BadTrack> bad;
  const auto hand_over = [&] {
    if (unread != nullptr) unread->insert(unread->end(), bad.begin(), bad.end());
  };
  std::vector<TrackPrediction> out;
  try {
    out = shard.size == 1 ? predict_clips(model, card, data, std::move(rows), options, stop, bad)
                          : predict_clips(model, card, data, shard, rows, options, stop, bad);
  } catch (...) {
    hand_over();
    throw;
  }
  hand_over();
  if (!bad.empty()) {
    spdlog::warn("{} of {} tracks could not be read and have no prediction; the first: {}",
                 bad.size(), count, bad.front().reason);
  }
  sort_by_row(out);
  return out;
}

Tensor scaled_features(const ModelCard& card, const data::DataSet& data,
                       std::span<const std::int64_t> rows) {
  const std::vector<std::size_t> positions = feature_positions(card, data);
  const std::size_t count = positions.size();
  Tensor out =
      Tensor::empty({static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(count)});
  std::vector<float> raw(count);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const data::Track& track = data.tracks[static_cast<std::size_t>(rows[i])];
    for (std::size_t j = 0; j < count; ++j) raw[j] = track.features[positions[j]];
    card.features.apply(raw, out.span<float>().subspan(i * count, count));
  }
  return out;
}

std::vector<TrackPrediction> predict_rows(nn::Dense& model, const ModelCard& card,
                                          const data::DataSet& data,
                                          const std::vector<std::int64_t>& rows,
                                          std::int64_t batch_size, const StopCheck& stop,
                                          const data::Shard& shard) {
  std::vector<TrackPrediction> out;
  if (shard.size > 1) {
    out = predict_parts(data, shard, rows, [&](const std::vector<std::int64_t>& own) {
      return predict_rows(model, card, data, own, batch_size, stop);
    });
    sort_by_row(out);
    return out;
  }
  const std::span<const std::int64_t> all(rows);
  const auto step = static_cast<std::size_t>(batch_size);
  PartedForward forward;
  for (std::size_t begin = 0; begin < all.size() && !(stop && stop()); begin += step) {
    const auto part = all.subspan(begin, std::min(step, all.size() - begin));
    const Tensor logits = forward(scaled_features(card, data, part),
                                  [&](const Tensor& x) { return logits_of(model, x); });
    collect(logits, card, data, part, out);
  }
  sort_by_row(out);
  return out;
}

Tensor for_model(const Tensor& x, const nn::Module& model) {
  const Tensor parameter = model.parameters().front().tensor;
  const Tensor there = x.to(parameter.device());
  return there.dtype() == parameter.dtype() ? there : there.to(parameter.dtype());
}

Tensor on_host(const Tensor& y) {
  return (y.dtype() == DType::kF32 ? y : y.to(DType::kF32)).to(DeviceKind::kCpu);
}

std::vector<std::int64_t> rows_with_audio(const data::DataSet& data,
                                          const std::vector<std::int64_t>& rows) {
  std::vector<std::int64_t> out;
  for (const std::int64_t row : rows) {
    if (!data.tracks[static_cast<std::size_t>(row)].audio.empty()) out.push_back(row);
  }
  return out;
}

}  // namespace onpa::apps
