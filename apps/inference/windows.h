// Clips of any length through a model of one length: padded, in one pass, or window by window as
// the samples come, in memory that does not grow with the clip.
// Parity: the wrapper of the public hear21passt package (scene and timestamp embeddings).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/inference/model_card.h"
#include "apps/inference/reflected_windows.h"
#include "nn/passt.h"

namespace onpa::apps {

/// Appends the next samples of a clip, at the model's rate; false if there are none left. As
/// audio::DecodeStream::read().
using SampleSource = std::function<bool(std::vector<float>&)>;

/// What to do with a clip that is longer than one pass takes.
enum class LongClips {
  kWindows,      // overlapping windows of the model's length, their outputs averaged
  kInterpolate,  // one pass, the time table interpolated to the clip
  kCut,          // the beginning alone
};

struct WindowOptions {
  LongClips longer = LongClips::kWindows;
  double window_seconds = 0, hop_seconds = 0;  // of long clips; 0: as the model's length has it
  std::int64_t batch = 0;                      // windows of one pass; 0: as many as fit well
};

/// Lengths in samples.
struct WindowPlan {
  std::int64_t shortest;  // of a pass; shorter clips are padded with zeros
  std::int64_t longest;   // that goes through in one pass
  std::int64_t window, hop;
};

/// The model's length is the whole number of seconds nearest to what its time table covers, 10, 20
/// or 30 s for the published models, whose hops are 2.5, 5 and 10 s; clips up to it go through in
/// one pass. Of a model that onpa has trained on targets of its own, all that the table covers
/// does. Throws Error (kUsage) for a window that the table does not cover or that is under one
/// patch, and for a hop under one sample or over 1e9.
WindowPlan plan_windows(const ModelCard& card, const WindowOptions& options = {});

/// What goes through a model in one pass of a clip that may be longer.
struct Stretch {
  std::vector<float> samples;
  std::int64_t clip_samples = 0;
  bool cut = false;  // there is more of the clip behind it
};

/// As much of a clip from sample `first` on as goes through in one pass, or, if there is more, a
/// window. Reads the source to its end and holds no more than a pass; throws what it throws.
Stretch stretch_from(const SampleSource& source, std::int64_t first, const WindowPlan& plan);

/// One of the parts of a timestamp embedding.
struct TimestampLevel {
  std::int64_t window_samples;
  bool is_mel = false;  // the log-mel spectrogram of the window itself, not the model's output
};

/// Names of what timestamp embeddings can be: "base", "base2level", "base2levelmel".
const std::vector<std::string>& timestamp_layouts();
/// The windows of a layout: 160 ms; and 5 times that; in the third layout 5 times (4 at a hop of
/// 320 samples) and six mel frames. Throws Error (kUsage) for another name.
std::vector<TimestampLevel> timestamp_levels(const std::string& layout, const ModelCard& card);

/// What of the model's output makes up an embedding.
enum class EmbeddingMode { kFeatures, kLogits, kAll };  // kAll: logits, then features

class ClipModel {
 public:
  /// Both must outlive it; the model is put into evaluation mode.
  ClipModel(nn::Passt& model, const ModelCard& card, const WindowOptions& options = {});

  struct Output {
    std::vector<float> logits, features;  // of several windows the mean
    std::int64_t samples = 0, windows = 1;
  };
  /// A whole clip, the scene embedding. `name` is for messages. Throws what `source` throws.
  Output scene(const SampleSource& source, const std::string& name);

  /// Gets the rows of a clip in order: milliseconds of the window's middle, the embedding.
  using RowSink = std::function<void(double ms, std::span<const float> embedding)>;
  /// Timestamp embeddings every `hop_samples`, 1 to 1e9 (Error kUsage). Returns the rows.
  std::int64_t timestamps(const SampleSource& source, const std::string& name,
                          const std::vector<TimestampLevel>& levels, std::int64_t hop_samples,
                          EmbeddingMode mode, const RowSink& sink);

  /// Numbers in an embedding.
  std::int64_t width(EmbeddingMode mode) const;
  std::int64_t width(EmbeddingMode mode, const std::vector<TimestampLevel>& levels) const;
  /// The numbers of `output` that `mode` means.
  std::vector<float> embedding(const Output& output, EmbeddingMode mode) const;
  const WindowPlan& plan() const { return plan_; }
  /// Windows of `samples` that one pass takes.
  std::int64_t batch_of(std::int64_t samples) const;

 private:
  class Level;
  nn::Passt::Output forward(const Tensor& wave) const;
  Output one_pass(std::span<const float> wave) const;
  Output interpolated(std::span<const float> wave) const;
  Output windows(std::vector<float> start, const SampleSource& source) const;
  void pad(std::vector<float>& wave, std::int64_t shortest, const std::string& name);

  nn::Passt& model_;
  const ModelCard& card_;
  WindowOptions options_;
  WindowPlan plan_;
  bool said_short_ = false, said_long_ = false;
};

}  // namespace onpa::apps
