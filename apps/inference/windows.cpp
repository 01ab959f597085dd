#include "apps/inference/windows.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <numeric>
#include <utility>

#include "apps/inference/inference.h"
#include "apps/support/log.h"
#include "audio/mel.h"
#include "kernels/error.h"
#include "nn/adapt.h"
#include "tensor/autograd.h"

namespace onpa::apps {
namespace {

// Tokens of one pass at which products are large enough to run at full speed.
constexpr std::int64_t kTokensAPass = 8192;

constexpr std::int64_t kMostHop = 1'000'000'000;  // samples

std::int64_t samples_of(double seconds, const ModelCard& card) {
  return std::llround(seconds * card.mel.rate_hz);
}

// A window or hop of so many seconds, as an option asks for it.
std::int64_t wanted_samples(const char* what, double seconds, const ModelCard& card) {
  const double samples = std::round(seconds * card.mel.rate_hz);
  if (!(samples >= 1 && samples <= kMostHop)) {
    fail(ExitCode::kUsage, what, seconds, " s, want at least a sample and at most ",
         kMostHop / card.mel.rate_hz, " s");
  }
  return static_cast<std::int64_t>(samples);
}

// Frames that the time table covers.
std::int64_t table_frames(const ModelCard& card) {
  return card.passt.patch_t + (card.passt.table_t - 1) * card.passt.stride_t;
}

bool is_covered(const ModelCard& card, std::int64_t samples) {
  return card.passt.grid_t(card.mel.frames(samples)) <= card.passt.table_t;
}

// The longest clip whose patches have a column each.
std::int64_t covered_samples(const ModelCard& card) {
  const std::int64_t frames = table_frames(card) + card.passt.stride_t - 1;
  return frames * card.mel.hop_samples;
}

// Whether the card's outputs are a target's that the model was trained on here.
bool has_own_target(const ModelCard& card) {
  return card.seconds > 0 || card.target_mean != 0 || card.target_std != 1;
}

void add_to(std::vector<double>& sum, std::span<const float> rows, std::int64_t count) {
  const std::size_t width = rows.size() / static_cast<std::size_t>(count);
  sum.resize(width);
  for (std::size_t i = 0; i < rows.size(); ++i) sum[i % width] += static_cast<double>(rows[i]);
}

std::vector<float> mean_of(const std::vector<double>& sum, std::int64_t count) {
  std::vector<float> out;
  for (const double v : sum) out.push_back(static_cast<float>(v / static_cast<double>(count)));
  return out;
}

}  // namespace

WindowPlan plan_windows(const ModelCard& card, const WindowOptions& options) {
  WindowPlan plan{};
  plan.shortest = shortest_samples(card);
  const double table_seconds =
      static_cast<double>(table_frames(card)) * card.mel.hop_samples / card.mel.rate_hz;
  plan.window = samples_of(std::max(1.0, std::round(table_seconds)), card);
  if (!is_covered(card, plan.window)) plan.window = covered_samples(card);
  plan.longest = has_own_target(card) ? covered_samples(card) : plan.window;
  if (options.window_seconds > 0) {
    plan.window = wanted_samples("windows of ", options.window_seconds, card);
    if (!is_covered(card, plan.window)) {
      fail(ExitCode::kUsage, "windows of ", options.window_seconds,
           " s are longer than the model's time table, which covers ",
           static_cast<double>(covered_samples(card)) / card.mel.rate_hz, " s");
    }
    plan.longest = plan.window;
  }
  if (plan.window < plan.shortest) {
    fail(ExitCode::kUsage, "windows of ", options.window_seconds,
         " s are under one patch, want at least ",
         static_cast<double>(plan.shortest) / card.mel.rate_hz, " s");
  }
  // As the public wrappers have it: 2.5 of 10 s, 5 of 20, 10 of 30.
  plan.hop = plan.window / (plan.window >= samples_of(30, card) ? 3 : 4);
  if (options.hop_seconds > 0) {
    plan.hop = wanted_samples("windows every ", options.hop_seconds, card);
  }
  plan.hop = std::max<std::int64_t>(1, plan.hop);
  return plan;
}

Stretch stretch_from(const SampleSource& source, std::int64_t first, const WindowPlan& plan) {
  Stretch out;
  std::vector<float> block;
  for (; source(block); block.clear()) {
    const std::int64_t size = std::ssize(block);
    const std::int64_t begin = std::clamp<std::int64_t>(first - out.clip_samples, 0, size);
    // One sample more than goes through shows that there is more.
    const std::int64_t room = plan.longest + 1 - std::ssize(out.samples);
    const auto from = block.begin() + begin;
    out.samples.insert(out.samples.end(), from, from + std::min(room, size - begin));
    out.clip_samples += size;
  }
  out.cut = std::ssize(out.samples) > plan.longest;
  if (out.cut) out.samples.resize(static_cast<std::size_t>(plan.window));
  return out;
}

const std::vector<std::string>& timestamp_layouts() {
  static const std::vector<std::string> layouts = {"base", "base2level", "base2levelmel"};
  return layouts;
}

std::vector<TimestampLevel> timestamp_levels(const std::string& layout, const ModelCard& card) {
  const std::int64_t window = samples_of(0.160, card), hop = card.mel.hop_samples;
  if (layout == "base") return {{window}};
  if (layout == "base2level") return {{window}, {5 * window}};
  if (layout == "base2levelmel") {
    const std::int64_t larger = hop >= 320 ? 4 : 5;
    return {{window}, {larger * window}, {6 * hop, true}};
  }
  fail(ExitCode::kUsage, "no timestamp layout '", layout,
       "', want base, base2level or base2levelmel");
}

ClipModel::ClipModel(nn::Passt& model, const ModelCard& card, const WindowOptions& options)
    : model_(model), card_(card), options_(options), plan_(plan_windows(card, options)) {
  model_.train(false);
}

std::int64_t ClipModel::batch_of(std::int64_t samples) const {
  if (options_.batch > 0) return options_.batch;
  const std::int64_t columns =
      std::min(card_.passt.grid_t(card_.mel.frames(samples)), card_.passt.table_t);
  return std::max<std::int64_t>(1, kTokensAPass / (2 + card_.passt.grid_f() * columns));
}

nn::Passt::Output ClipModel::forward(const Tensor& wave) const {
  const NoGrad no_grad;
  const DeviceKind device = model_.parameters().front().tensor.device();
  nn::Passt::Output out =
      model_.forward(for_model(audio::log_mel(wave.to(device), card_.mel), model_));
  return {on_host(out.logits), on_host(out.features)};
}

ClipModel::Output ClipModel::one_pass(std::span<const float> wave) const {
  const auto count = std::ssize(wave);
  const nn::Passt::Output out = forward(Tensor::from<float>({1, count}, wave));
  return {out.logits.to_vector<float>(), out.features.to_vector<float>(), count, 1};
}

ClipModel::Output ClipModel::interpolated(std::span<const float> wave) const {
  const auto count = std::ssize(wave);
  const NoGrad no_grad;
  const DeviceKind device = model_.parameters().front().tensor.device();
  const Tensor there = Tensor::from<float>({1, count}, wave).to(device);
  const Tensor mel = for_model(audio::log_mel(there, card_.mel), model_);
  ops::PatchGrid grid = model_.whole_grid(mel.size(2));
  grid.grid_t = card_.passt.grid_t(mel.size(2));
  Tensor table;
  for (const nn::NamedParameter& p : model_.parameters()) {
    if (p.name == "time_new_pos_embed") table = p.tensor.detach();
  }
  const Tensor resized = nn::resize_time_table(on_host(table), grid.grid_t);
  const nn::Passt::Output out =
      model_.forward_tokens(model_.tokens(mel, grid, for_model(resized, model_)));
  return {on_host(out.logits).to_vector<float>(), on_host(out.features).to_vector<float>(), count,
          1};
}

ClipModel::Output ClipModel::windows(std::vector<float> start, const SampleSource& source) const {
  ReflectedWindows windows(plan_.window, plan_.hop);
  WindowBatch batch(batch_of(plan_.window), plan_.window);
  std::vector<double> logits, features;
  Output out;
  out.windows = 0;
  const auto run = [&] {
    if (batch.filled() == 0) return;
    const nn::Passt::Output part = forward(batch.rows());
    add_to(logits, part.logits.span<float>(), batch.filled());
    add_to(features, part.features.span<float>(), batch.filled());
    out.windows += batch.filled();
    batch.clear();
  };
  const auto take = [&] {
    while (batch.take(windows)) {
      if (batch.is_full()) run();
    }
  };
  bool more = true;
  while (more) {
    out.samples += std::ssize(start);
    windows.push(start);
    take();
    start.clear();
    more = source(start);
  }
  windows.finish();
  take();
  run();
  out.logits = mean_of(logits, out.windows);
  out.features = mean_of(features, out.windows);
  return out;
}

void ClipModel::pad(std::vector<float>& wave, std::int64_t shortest, const std::string& name) {
  if (std::ssize(wave) >= shortest) return;
  if (!std::exchange(said_short_, true)) {
    spdlog::warn(
        "{}: {:.3f} s is padded with silence to {:.3f} s, the least that the model takes, as is "
        "any such clip after it",
        name, static_cast<double>(wave.size()) / card_.mel.rate_hz,
        static_cast<double>(shortest) / card_.mel.rate_hz);
  }
  wave.resize(static_cast<std::size_t>(shortest));
}

ClipModel::Output ClipModel::scene(const SampleSource& source, const std::string& name) {
  std::vector<float> wave;
  bool more = true;
  const bool whole = options_.longer == LongClips::kInterpolate;
  while (more && (whole || std::ssize(wave) <= plan_.longest)) more = source(wave);
  const std::int64_t samples = std::ssize(wave);
  pad(wave, plan_.shortest, name);
  Output out;
  if (samples <= plan_.longest) {
    out = one_pass(wave);
  } else if (whole) {
    out = is_covered(card_, samples) ? one_pass(wave) : interpolated(wave);
  } else if (options_.longer == LongClips::kWindows) {
    return windows(std::move(wave), source);
  } else {
    std::int64_t total = samples;
    for (std::vector<float> rest; more && source(rest); rest.clear()) total += std::ssize(rest);
    if (!std::exchange(said_long_, true)) {
      spdlog::warn(
          "{}: {:.1f} s is longer than the model's {:.1f} s; the rest is not heard, nor "
          "that of any such clip after it",
          name, static_cast<double>(total) / card_.mel.rate_hz,
          static_cast<double>(plan_.longest) / card_.mel.rate_hz);
    }
    out = one_pass(std::span(wave).first(static_cast<std::size_t>(plan_.longest)));
    out.samples = total;
    return out;
  }
  out.samples = samples;
  return out;
}

// One part of a timestamp embedding: windows that wait for their batch, rows that wait for the
// other parts.
class ClipModel::Level {
 public:
  Level(const ClipModel& model, const TimestampLevel& level, std::int64_t hop, EmbeddingMode mode)
      : model_(model),
        level_(level),
        mode_(mode),
        windows_(level.window_samples, hop),
        batch_(model.batch_of(level.window_samples), level.window_samples) {}

  void push(std::span<const float> wave) {
    windows_.push(wave);
    take();
  }
  void finish() {
    windows_.finish();
    take();
    run();
  }
  bool is_ready() const { return !rows_.empty(); }
  void pop(std::vector<float>& row) {
    row.insert(row.end(), rows_.front().begin(), rows_.front().end());
    rows_.pop_front();
  }

 private:
  void take() {
    while (batch_.take(windows_)) {
      if (batch_.is_full()) run();
    }
  }
  void run() {
    if (batch_.filled() == 0) return;
    const Tensor waves = batch_.rows();
    if (level_.is_mel) {
      const NoGrad no_grad;
      append(audio::log_mel(waves, model_.card_.mel));
    } else {
      const nn::Passt::Output out = model_.forward(waves);
      const std::size_t first = rows_.size();
      if (mode_ != EmbeddingMode::kFeatures) append(out.logits);
      if (mode_ == EmbeddingMode::kFeatures) append(out.features);
      if (mode_ == EmbeddingMode::kAll) {
        const std::span<const float> features = out.features.span<float>();
        const std::size_t width = features.size() / static_cast<std::size_t>(batch_.filled());
        for (std::size_t i = first; i < rows_.size(); ++i) {
          const auto row = features.subspan((i - first) * width, width);
          rows_[i].insert(rows_[i].end(), row.begin(), row.end());
        }
      }
    }
    batch_.clear();
  }
  void append(const Tensor& rows) {
    const std::span<const float> all = rows.span<float>();
    const std::size_t width = all.size() / static_cast<std::size_t>(batch_.filled());
    for (std::size_t at = 0; at < all.size(); at += width) {
      rows_.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(at),
                         all.begin() + static_cast<std::ptrdiff_t>(at + width));
    }
  }

  const ClipModel& model_;
  TimestampLevel level_;
  EmbeddingMode mode_;
  ReflectedWindows windows_;
  WindowBatch batch_;
  std::deque<std::vector<float>> rows_;
};

std::int64_t ClipModel::timestamps(const SampleSource& source, const std::string& name,
                                   const std::vector<TimestampLevel>& levels,
                                   std::int64_t hop_samples, EmbeddingMode mode,
                                   const RowSink& sink) {
  if (hop_samples < 1 || hop_samples > kMostHop) {
    fail(ExitCode::kUsage, "timestamps every ", hop_samples, " samples, want 1 to ", kMostHop);
  }
  std::vector<std::unique_ptr<Level>> parts;
  std::int64_t shortest = 0;
  for (const TimestampLevel& level : levels) {
    if (!level.is_mel &&
        (level.window_samples < plan_.shortest || !is_covered(card_, level.window_samples))) {
      fail(ExitCode::kUsage, "timestamp windows of ", level.window_samples, " samples, want ",
           plan_.shortest, " to ", covered_samples(card_));
    }
    parts.push_back(std::make_unique<Level>(*this, level, hop_samples, mode));
    shortest = std::max(shortest, level.window_samples / 2 + 1);
  }
  std::int64_t rows = 0;
  std::vector<float> row;
  const auto hand_out = [&] {
    while (std::ranges::all_of(parts, [](const auto& part) { return part->is_ready(); })) {
      row.clear();
      for (const auto& part : parts) part->pop(row);
      sink(static_cast<double>(rows * hop_samples) * 1000 / card_.mel.rate_hz, row);
      ++rows;
    }
  };
  std::vector<float> wave;
  bool more = true;
  while (more && std::ssize(wave) < shortest) more = source(wave);
  pad(wave, shortest, name);
  for (;;) {
    for (const auto& part : parts) part->push(wave);
    hand_out();
    wave.clear();
    if (!more || !(more = source(wave))) break;
  }
  for (const auto& part : parts) part->finish();
  hand_out();
  return rows;
}

std::int64_t ClipModel::width(EmbeddingMode mode) const {
  return (mode == EmbeddingMode::kFeatures ? 0 : card_.passt.outputs) +
         (mode == EmbeddingMode::kLogits ? 0 : card_.passt.width);
}

std::int64_t ClipModel::width(EmbeddingMode mode, const std::vector<TimestampLevel>& levels) const {
  std::int64_t out = 0;
  for (const TimestampLevel& level : levels) {
    out += level.is_mel ? card_.mel.mels * card_.mel.frames(level.window_samples) : width(mode);
  }
  return out;
}

std::vector<float> ClipModel::embedding(const Output& output, EmbeddingMode mode) const {
  std::vector<float> out;
  if (mode != EmbeddingMode::kFeatures) out = output.logits;
  if (mode != EmbeddingMode::kLogits) {
    out.insert(out.end(), output.features.begin(), output.features.end());
  }
  return out;
}

}  // namespace onpa::apps
