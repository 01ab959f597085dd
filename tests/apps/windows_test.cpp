// Scene and timestamp embeddings against the public wrappers' (tests/golden/make_hear.py), and
// windows of a stream against those of the whole.
#include "apps/inference/windows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/inference/class_names.h"
#include "kernels/error.h"
#include "nn/adapt.h"
#include "tensor/io/safetensors.h"
#include "tests/support/hash_fill.h"

namespace onpa::apps {
namespace {

// A source that gives `wave` in pieces of many sizes.
SampleSource pieces_of(const std::vector<float>& wave) {
  return [&wave, at = std::size_t{0}, step = std::size_t{1}](std::vector<float>& out) mutable {
    if (at == wave.size()) return false;
    const std::size_t count = std::min(step, wave.size() - at);
    out.insert(out.end(), wave.begin() + static_cast<long>(at),
               wave.begin() + static_cast<long>(at + count));
    at += count;
    step = step % 9000 * 5 + 3;
    return true;
  };
}

std::vector<float> noise(std::int64_t samples) {
  return testing::hash_tensor({samples}, "wave", 0.3f).to_vector<float>();
}

class Hear : public ::testing::Test {
 protected:
  Hear() : golden_(io::read_safetensors(std::string(ONPA_GOLDEN_DIR) + "/hear.safetensors")) {}

  // The models of make_hear.py.
  void use(int hop_samples) {
    card_ = {};
    card_.kind = "passt";
    card_.passt.table_t = (32000 / hop_samples - 2) / 10;
    card_.passt.width = 64;
    card_.passt.heads = 1;
    card_.passt.depth = 2;
    card_.passt.mlp = 256;
    card_.passt.outputs = 5;
    card_.mel.hop_samples = hop_samples;
    model_ = std::make_unique<nn::Passt>(card_.passt);
    testing::hash_fill_parameters(*model_);
  }

  // The largest difference; values are of the order of 1, and f32 against f64.
  void expect_near(const std::vector<float>& got, const std::string& name) const {
    const Tensor want = golden_.find(name);
    ASSERT_TRUE(want.defined()) << name;
    ASSERT_EQ(std::ssize(got), want.numel()) << name;
    float worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      worst = std::max(worst, std::abs(got[i] - want.span<float>()[i]));
    }
    EXPECT_LT(worst, 1e-4f) << name;
  }
  void expect_scene(std::int64_t samples, const std::string& name, std::int64_t windows,
                    const WindowOptions& options = {}, EmbeddingMode mode = EmbeddingMode::kAll) {
    ClipModel clips(*model_, card_, options);
    const std::vector<float> wave = noise(samples);
    const ClipModel::Output output = clips.scene(pieces_of(wave), "wave");
    EXPECT_EQ(output.windows, windows) << name;
    EXPECT_EQ(output.samples, samples) << name;
    expect_near(clips.embedding(output, mode), name);
  }
  // Every `step`th row.
  std::vector<float> stamps(std::int64_t samples, const std::string& layout, std::int64_t rows,
                            std::int64_t step = 1, std::int64_t batch = 0) {
    WindowOptions options;
    options.batch = batch;
    ClipModel clips(*model_, card_, options);
    const auto levels = timestamp_levels(layout, card_);
    const std::vector<float> wave = noise(samples);
    std::vector<float> out;
    std::int64_t row = 0;
    const auto sink = [&](double ms, std::span<const float> embedding) {
      EXPECT_DOUBLE_EQ(ms, 50.0 * static_cast<double>(row));
      EXPECT_EQ(std::ssize(embedding), clips.width(EmbeddingMode::kAll, levels));
      if (row++ % step == 0) out.insert(out.end(), embedding.begin(), embedding.end());
    };
    EXPECT_EQ(clips.timestamps(pieces_of(wave), "wave", levels, 1600, EmbeddingMode::kAll, sink),
              rows);
    EXPECT_EQ(row, rows);
    return out;
  }

  io::SafetensorsFile golden_;
  ModelCard card_;
  std::unique_ptr<nn::Passt> model_;
};

TEST_F(Hear, ScenesOfOnePassAndOfWindows) {
  use(320);
  expect_scene(16000, "scene.half", 1);
  expect_scene(32000, "scene.second", 1);
  expect_scene(33000, "scene.over", 5);
  expect_scene(45001, "scene.long", 6);
  expect_scene(33000, "scene.three", 3, {.hop_seconds = 0.5});
  expect_scene(45001, "scene.features", 6, {}, EmbeddingMode::kFeatures);
  expect_scene(45001, "scene.long", 6, {.batch = 1});
  expect_scene(45001, "scene.long", 6, {.batch = 4});
  expect_scene(45001, "scene.long", 6, {.batch = std::int64_t{1} << 40});  // not all at once
  use(160);
  expect_scene(33000, "scene.hop160", 5);
}

TEST_F(Hear, TimestampsOfEveryLayout) {
  use(320);
  for (const std::int64_t batch :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}, std::int64_t{1} << 40}) {
    expect_near(stamps(16000, "base", 11, 1, batch), "stamps.half");
  }
  expect_near(stamps(3000, "base", 2), "stamps.short");
  expect_near(stamps(20000, "base2level", 13, 3), "stamps.base2level");
  expect_near(stamps(20000, "base2levelmel", 13, 3), "stamps.base2levelmel");
  use(160);
  expect_near(stamps(20000, "base2levelmel", 13, 3), "stamps.hop160");
}

TEST_F(Hear, TooShortClipsArePaddedWithSilence) {
  use(320);
  ClipModel clips(*model_, card_);
  std::vector<float> wave = noise(1000);
  const ClipModel::Output short_clip = clips.scene(pieces_of(wave), "wave");
  EXPECT_EQ(short_clip.samples, 1000);
  wave.resize(4801);
  EXPECT_EQ(short_clip.logits, clips.scene(pieces_of(wave), "wave").logits);
  // Half a window and a sample are what a reflection needs.
  EXPECT_EQ(stamps(100, "base", 2).size(), 2u * 69);
}

TEST_F(Hear, CutHearsTheBeginning) {
  use(320);
  ClipModel clips(*model_, card_, {.longer = LongClips::kCut});
  std::vector<float> wave = noise(45001);
  const ClipModel::Output cut = clips.scene(pieces_of(wave), "wave");
  EXPECT_EQ(cut.samples, 45001);
  wave.resize(32000);
  EXPECT_EQ(cut.logits, clips.scene(pieces_of(wave), "wave").logits);
}

// One pass of a model whose table is the interpolated one.
TEST_F(Hear, InterpolationIsOnePassOfALongerTable) {
  use(320);
  ClipModel clips(*model_, card_, {.longer = LongClips::kInterpolate});
  const std::vector<float> wave = noise(64000);
  const ClipModel::Output got = clips.scene(pieces_of(wave), "wave");
  EXPECT_EQ(got.windows, 1);
  ModelCard longer = card_;
  longer.passt.table_t = card_.passt.grid_t(card_.mel.frames(64000));
  ASSERT_GT(longer.passt.table_t, card_.passt.table_t);
  nn::Passt model(longer.passt);
  for (const nn::NamedParameter& p : model.parameters()) {
    for (const nn::NamedParameter& from : model_->parameters()) {
      if (from.name != p.name) continue;
      p.tensor.copy_from(p.name == "time_new_pos_embed"
                             ? nn::resize_time_table(from.tensor.detach(), longer.passt.table_t)
                             : from.tensor.detach());
    }
  }
  ClipModel whole(model, longer, {.longer = LongClips::kCut});
  EXPECT_EQ(got.logits, whole.scene(pieces_of(wave), "wave").logits);
  EXPECT_NE(got.logits, ClipModel(*model_, card_).scene(pieces_of(wave), "wave").logits);
}

TEST_F(Hear, ATrainedTargetIsHeardInOnePassAsFarAsTheTableGoes) {
  use(320);
  ModelCard own = card_;
  own.target_std = 2;
  const std::vector<float> wave = noise(33000);  // 104 frames, of which the table covers 9 patches
  EXPECT_EQ(ClipModel(*model_, own).scene(pieces_of(wave), "wave").windows, 1);
  EXPECT_EQ(ClipModel(*model_, card_).scene(pieces_of(wave), "wave").windows, 5);
  EXPECT_GT(ClipModel(*model_, own).scene(pieces_of(noise(40000)), "wave").windows, 1);
}

TEST(PlanWindows, ArePublishedModelsOwn) {
  const struct {
    std::int64_t table_t, stride;
    int hop_samples;
    double window_seconds, hop_seconds;
  } cases[] = {{99, 10, 320, 10, 2.5},  {83, 12, 320, 10, 2.5}, {71, 14, 320, 10, 2.5},
               {62, 16, 320, 10, 2.5},  {200, 10, 320, 20, 5},  {300, 10, 320, 30, 10},
               {200, 10, 160, 10, 2.5}, {320, 10, 100, 10, 2.5}};
  for (const auto& c : cases) {
    ModelCard card;
    card.passt.table_t = c.table_t;
    card.passt.stride_f = card.passt.stride_t = c.stride;
    card.mel.hop_samples = c.hop_samples;
    const WindowPlan plan = plan_windows(card);
    EXPECT_EQ(plan.window, static_cast<std::int64_t>(c.window_seconds * 32000)) << c.table_t;
    EXPECT_EQ(plan.longest, plan.window) << c.table_t;
    EXPECT_EQ(plan.hop, static_cast<std::int64_t>(c.hop_seconds * 32000)) << c.table_t;
    EXPECT_EQ(plan.shortest, 15 * c.hop_samples + 1) << c.table_t;
  }
}

TEST(PlanWindows, RefusesWhatTheTableOrAPatchCannotHold) {
  ModelCard card;
  EXPECT_THROW(plan_windows(card, {.window_seconds = 11}), Error);
  EXPECT_THROW(plan_windows(card, {.window_seconds = 0.1}), Error);
  EXPECT_EQ(plan_windows(card, {.window_seconds = 4, .hop_seconds = 1}).hop, 32000);
}

// Of any number that an option may be, with no sum that overflows.
template <class Call>
void expect_usage(Call&& call) {
  try {
    call();
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage) << error.what();
  }
}

TEST(PlanWindows, RefusesHopsThatAreNoNumberOfSamples) {
  const ModelCard card;
  for (const double seconds : {1e300, 1e15, 1e14, 40000.0, 1e-5, 1e-300}) {
    expect_usage([&] { plan_windows(card, {.hop_seconds = seconds}); });
    expect_usage([&] { plan_windows(card, {.window_seconds = seconds}); });
  }
  EXPECT_EQ(plan_windows(card, {.hop_seconds = 1 / 32000.0}).hop, 1);
  EXPECT_EQ(plan_windows(card, {.hop_seconds = 31250}).hop, 1'000'000'000);
}

TEST_F(Hear, TimestampsNeedAHopOfSamples) {
  use(320);
  ClipModel clips(*model_, card_);
  const std::vector<float> wave = noise(3000);
  const auto sink = [](double, std::span<const float>) {};
  for (const std::int64_t hop :
       {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'000'000'001},
        std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}) {
    expect_usage([&] {
      clips.timestamps(pieces_of(wave), "wave", timestamp_levels("base", card_), hop,
                       EmbeddingMode::kAll, sink);
    });
  }
}

// An hour by blocks.
TEST(ReflectedWindows, DoNotHoldWhatLiesBetweenTwo) {
  const std::vector<float> block(8192);
  ReflectedWindows windows(1600, 1'000'000'000);
  std::vector<float> window(1600);
  std::int64_t most = 0, count = 0;
  for (int i = 0; i < 14000; ++i) {
    windows.push(block);
    most = std::max(most, windows.held());
    count += windows.next(window) ? 1 : 0;
  }
  windows.finish();
  EXPECT_FALSE(windows.next(window));
  EXPECT_EQ(count, 1);
  EXPECT_LT(most, 4 * 8192);
}

TEST(StretchFrom, IsOnePassOrAWindowFromASecondOn) {
  const std::vector<float> wave = noise(20000);
  const WindowPlan plan{.shortest = 10, .longest = 5000, .window = 4000, .hop = 1000};
  const struct {
    std::int64_t first, count;
    bool cut;
  } cases[] = {{0, 4000, true},      {1, 4000, true},   {14999, 4000, true}, {15000, 5000, false},
               {15001, 4999, false}, {19999, 1, false}, {20000, 0, false},   {1 << 30, 0, false}};
  for (const auto& c : cases) {
    const Stretch got = stretch_from(pieces_of(wave), c.first, plan);
    EXPECT_EQ(got.clip_samples, 20000);
    EXPECT_EQ(got.cut, c.cut) << c.first;
    ASSERT_EQ(std::ssize(got.samples), c.count) << c.first;
    if (c.count == 0) continue;
    EXPECT_TRUE(std::equal(got.samples.begin(), got.samples.end(), wave.begin() + c.first));
  }
}

// Windows by definition: slices of the wave with both ends reflected.
TEST(ReflectedWindows, AreSlicesOfTheReflectedWave) {
  for (const auto& [samples, window, hop] :
       {std::tuple{50, 16, 4}, {9, 16, 3}, {400, 16, 40}, {33, 7, 2}, {64, 10, 5}}) {
    const std::vector<float> wave = noise(samples);
    const int pad = window / 2;
    std::vector<float> whole;
    for (int i = pad; i > 0; --i) whole.push_back(wave[static_cast<std::size_t>(i)]);
    whole.insert(whole.end(), wave.begin(), wave.end());
    for (int i = 0; i < pad; ++i) whole.push_back(wave[static_cast<std::size_t>(samples - 2 - i)]);

    ReflectedWindows windows(window, hop);
    std::vector<float> got(static_cast<std::size_t>(window));
    std::size_t at = 0;
    const auto take = [&] {
      while (windows.next(got)) {
        ASSERT_LE(at + got.size(), whole.size());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), whole.begin() + static_cast<long>(at)));
        at += static_cast<std::size_t>(hop);
      }
    };
    for (std::size_t i = 0; i < wave.size(); i += 3) {
      windows.push(std::span(wave).subspan(i, std::min<std::size_t>(3, wave.size() - i)));
      take();
    }
    windows.finish();
    take();
    const auto count = (std::ssize(whole) - window) / hop + 1;
    EXPECT_EQ(static_cast<std::int64_t>(at), count * hop) << samples;
  }
}

TEST(ClassNames, AreAudiosetsForItsNumberOfOutputs) {
  const std::vector<std::string> names = class_names(527);
  ASSERT_EQ(names.size(), 527u);
  EXPECT_EQ(names[0], "Speech");
  EXPECT_EQ(names[1], "Male speech, man speaking");
  EXPECT_EQ(names[137], "Music");
  EXPECT_EQ(names[345], "Dental drill, dentist's drill");
  EXPECT_EQ(names[526], "Field recording");
  EXPECT_TRUE(class_names(50).empty());
}

}  // namespace
}  // namespace onpa::apps
