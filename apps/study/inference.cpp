#include "apps/study/inference.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "apps/support/log.h"
#include "apps/support/suggest.h"
#include "audio/mel.h"
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

}  // namespace

void warn_of_cache(const data::AudioLoader& loader) {
  static std::atomic<bool> said = false;
  const std::string problem = loader.cache_problem();
  if (problem.empty() || said.exchange(true)) return;
  spdlog::warn("PCM cache: {}; what is not cached is decoded each time", problem);
}

std::vector<TrackPrediction> predict_rows(nn::Passt& model, const ModelCard& card,
                                          const data::DataSet& data, std::vector<std::int64_t> rows,
                                          const data::LoaderOptions& options, const StopCheck& stop,
                                          std::vector<data::BadTrack>* unread) {
  std::vector<TrackPrediction> out;
  if (rows.empty()) return out;
  const NoGrad no_grad;
  const EvalMode eval_mode(model);
  data::LoaderOptions eval = options;
  eval.train = false;
  eval.shuffle = false;
  eval.drop_last = false;
  eval.seconds = card.seconds;
  const std::size_t count = rows.size();
  data::AudioLoader loader(data, std::move(rows), eval);
  loader.start_epoch(0);
  const auto hand_over = [&] {
    const std::vector<data::BadTrack> bad = loader.bad_tracks();
    if (unread != nullptr) unread->insert(unread->end(), bad.begin(), bad.end());
    return bad;
  };
  data::AudioBatch batch;
  try {
    while (!(stop && stop()) && loader.next(batch)) {
      const Tensor mel = audio::log_mel(batch.wave, card.mel);
      collect(model.forward(mel).logits, card, data, batch.rows, out);
    }
  } catch (...) {
    hand_over();
    throw;
  }
  warn_of_cache(loader);
  if (const auto bad = hand_over(); !bad.empty()) {
    spdlog::warn("{} of {} tracks could not be read and have no prediction; the first: {}",
                 bad.size(), count, bad.front().reason);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.row < b.row; });
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
                                          std::int64_t batch_size, const StopCheck& stop) {
  const NoGrad no_grad;
  const EvalMode eval_mode(model);
  std::vector<TrackPrediction> out;
  const std::span<const std::int64_t> all(rows);
  const auto step = static_cast<std::size_t>(batch_size);
  for (std::size_t begin = 0; begin < all.size() && !(stop && stop()); begin += step) {
    const auto part = all.subspan(begin, std::min(step, all.size() - begin));
    collect(model.forward(scaled_features(card, data, part)), card, data, part, out);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.row < b.row; });
  return out;
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
