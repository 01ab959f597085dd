#include "apps/study/corpus.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/study/prepare.h"
#include "audio/decode.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

using testing::read_bytes;
using testing::TempFolder;

double rms(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * v;
  return std::sqrt(sum / static_cast<double>(x.size()));
}

// Energy of the first difference beside the energy of the signal: grows with brightness.
double brightness(const std::vector<float>& x) {
  double difference = 0, sum = 0;
  for (std::size_t i = 1; i < x.size(); ++i) {
    difference += std::pow(static_cast<double>(x[i]) - x[i - 1], 2);
    sum += static_cast<double>(x[i]) * x[i];
  }
  return difference / sum;
}

TEST(Corpus, TrackDependsOnSeedAndIndexAlone) {
  const auto few = draw_corpus({.tracks = 10, .seed = 5});
  const auto many = draw_corpus({.tracks = 50, .seed = 5});
  const auto other = draw_corpus({.tracks = 10, .seed = 6});
  for (std::size_t i = 0; i < few.size(); ++i) {
    EXPECT_EQ(few[i].id, many[i].id);
    EXPECT_EQ(few[i].popularity, many[i].popularity);
    EXPECT_EQ(few[i].features.tempo, many[i].features.tempo);
    EXPECT_NE(few[i].id, other[i].id);
  }
  EXPECT_EQ(render_clip(few[3], {.seed = 5}).samples, render_clip(many[3], {.seed = 5}).samples);
}

TEST(Corpus, StatisticsAreAsStated) {
  const auto tracks = draw_corpus({.tracks = 40000});
  std::set<std::string> ids;
  double hidden = 0, hidden2 = 0, dense = 0, passt = 0, product = 0, clipped = 0, planted = 0;
  for (const CorpusTrack& t : tracks) {
    ids.insert(t.id);
    const SongFeatures& f = t.features;
    for (const double unit : {f.danceability, f.energy, f.instrumentalness, f.liveness, f.valence,
                              f.acousticness, f.speechiness}) {
      ASSERT_TRUE(unit >= 0 && unit <= 1);
    }
    ASSERT_TRUE(f.loudness >= -30 && f.loudness <= 0);
    ASSERT_TRUE(f.tempo >= 60 && f.tempo <= 200);
    ASSERT_TRUE(t.popularity >= 0 && t.popularity <= 100);
    ASSERT_EQ(t.mean_given_features, explained_target(f));
    if (t.genre == kPlantedGenre) {
      ++planted;
      ASSERT_EQ(t.hidden, 0);
    }
    ASSERT_NE(t.second_genre, kPlantedGenre);
    const double y = t.popularity / 100.0 - 0.5;
    hidden += t.hidden;
    hidden2 += t.hidden * t.hidden;
    product += t.hidden * t.mean_given_features;
    dense += std::pow(y - t.mean_given_features, 2);
    passt += std::pow(y - t.mean_given_audio, 2);
    clipped += t.popularity == 0 || t.popularity == 100;
  }
  const double n = 40000;
  EXPECT_EQ(ids.size(), 40000u);
  // Bounds are about four standard errors at n = 40,000.
  EXPECT_NEAR(hidden / n, 0, 0.02);
  EXPECT_NEAR(hidden2 / n, 1, 0.03);
  EXPECT_NEAR(product / n, 0, 0.002);
  EXPECT_NEAR(planted / n, 0.10, 0.006);
  EXPECT_LT(clipped / n, 0.001);
  EXPECT_NEAR(std::sqrt(dense / n), analytic_floors().dense_rmse, 0.0015);
  EXPECT_NEAR(std::sqrt(passt / n), analytic_floors().passt_rmse, 0.0012);
}

TEST(Corpus, FloorsAreThoseOfTheTwoConditionalMeans) {
  EXPECT_NEAR(analytic_floors().dense_rmse, 0.100, 1e-12);
  EXPECT_NEAR(analytic_floors().passt_rmse, 0.080, 1e-12);
  EXPECT_NEAR(analytic_floors().dense_mae, 0.0798, 1e-4);
}

TEST(Corpus, ClipShowsGainAndHiddenTimbre) {
  CorpusTrack track = draw_corpus({.tracks = 1})[0];
  track.genre = "edm";
  track.features.energy = 0;
  track.features.loudness = -20;
  const CorpusOptions options;
  const audio::Clip quiet = render_clip(track, options);
  EXPECT_EQ(quiet.rate_hz, 32000);
  EXPECT_EQ(quiet.samples.size(), 32000u);
  track.features.loudness = -10;
  const audio::Clip loud = render_clip(track, options);
  EXPECT_NEAR(20 * std::log10(rms(loud.samples) / rms(quiet.samples)), 10, 0.01);
  track.hidden = -2;
  const double dull = brightness(render_clip(track, options).samples);
  track.hidden = 2;
  EXPECT_GT(brightness(render_clip(track, options).samples), 1.5 * dull);
}

TEST(Corpus, PlantedGenreLiesUnderNoise) {
  CorpusTrack track = draw_corpus({.tracks = 1})[0];
  track.features.loudness = -30;
  track.genre = "edm";
  const double clean = rms(render_clip(track, {}).samples);
  track.genre = kPlantedGenre;
  EXPECT_GT(rms(render_clip(track, {}).samples), 3 * clean);
}

TEST(Corpus, RefusesOptionsOutOfRange) {
  EXPECT_THROW(draw_corpus({.tracks = 0}), Error);
  EXPECT_THROW(draw_corpus({.tracks = 1, .seconds = 0.1}), Error);
  EXPECT_THROW(draw_corpus({.tracks = 1, .seconds = NAN}), Error);
}

TEST(CorpusFiles, DecodeAndDoNotDependOnThreads) {
  const TempFolder one, two;
  const CorpusOptions options{.tracks = 20, .seconds = 0.5};
  const int threads = kernels::thread_count();
  kernels::set_thread_count(1);
  EXPECT_TRUE(make_corpus(one.path(), options));
  kernels::set_thread_count(2);
  std::int64_t last = 0;
  EXPECT_TRUE(make_corpus(two.path(), options,
                          [&](std::int64_t done, std::int64_t) { last = std::max(last, done); }));
  kernels::set_thread_count(threads);
  EXPECT_EQ(last, 20);
  for (const char* name : {"tracks.csv", "truth.csv", "floors.json", "corpus.json"}) {
    EXPECT_EQ(read_bytes(one / name), read_bytes(two / name)) << name;
  }
  for (const CorpusTrack& track : draw_corpus(options)) {
    const fs::path file = fs::path("audio") / (track.id + ".mp3");
    ASSERT_EQ(read_bytes(one / file), read_bytes(two / file));
    const audio::Clip clip = audio::decode_file(one / file);
    EXPECT_NEAR(static_cast<double>(clip.samples.size()), 16000, 1);
    const double want = rms(render_clip(track, options).samples);
    // 128 kbit/s is transparent to within a decibel.
    EXPECT_NEAR(20 * std::log10(rms(clip.samples) / want), 0, 1);
  }
  const auto floors = nlohmann::json::parse(read_bytes(one / "floors.json"));
  EXPECT_NEAR(floors["analytic"]["passt"]["rmse"].get<double>(), 0.08, 1e-12);
  EXPECT_GT(floors["all_tracks"]["dense"]["rmse"].get<double>(), 0);
}

TEST(CorpusFiles, SecondCallKeepsWhatIsThere) {
  const TempFolder folder;
  const CorpusOptions options{.tracks = 6, .seconds = 0.25};
  EXPECT_TRUE(make_corpus(folder.path(), options));
  EXPECT_FALSE(make_corpus(folder.path(), options));
  const auto tracks = draw_corpus(options);
  const fs::path lost = folder / "audio" / (tracks[0].id + ".mp3");
  const fs::path kept = folder / "audio" / (tracks[1].id + ".mp3");
  const std::string want = read_bytes(lost);
  const auto kept_time = fs::last_write_time(kept);
  fs::remove(lost);
  EXPECT_TRUE(make_corpus(folder.path(), options));
  EXPECT_EQ(read_bytes(lost), want);
  EXPECT_EQ(fs::last_write_time(kept), kept_time);
  try {
    make_corpus(folder.path(), {.tracks = 6, .seconds = 0.25, .seed = 2});
    FAIL() << "clips of two corpora were mixed";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kCannotCreate);
  }
}

TEST(CorpusFiles, PrepareJoinsGenresAndFindsEveryClip) {
  const TempFolder folder;
  const CorpusOptions options{.tracks = 60, .seconds = 0.25};
  make_corpus(folder.path(), options);
  const auto tracks = draw_corpus(options);
  const data::DataSet data = prepare_data(
      {.csv = folder / "tracks.csv", .audio = folder / "audio", .out = folder / "data"});
  ASSERT_EQ(data.tracks.size(), tracks.size());
  std::int64_t double_genres = 0;
  for (std::size_t i = 0; i < tracks.size(); ++i) {
    EXPECT_EQ(data.tracks[i].id, tracks[i].id);
    EXPECT_EQ(data.tracks[i].audio, tracks[i].id + ".mp3");
    EXPECT_EQ(data.tracks[i].popularity, tracks[i].popularity);
    EXPECT_EQ(data.tracks[i].features[0], static_cast<float>(tracks[i].features.danceability));
    double_genres += !tracks[i].second_genre.empty();
    EXPECT_EQ(data.tracks[i].genres().size(), tracks[i].second_genre.empty() ? 1u : 2u);
  }
  EXPECT_EQ(nlohmann::json::parse(data.card)["rows"]["joined"].get<std::int64_t>(), double_genres);
  const Floors floors = test_floors(folder.path(), data);
  EXPECT_EQ(floors.n, std::ssize(data.indices(data::Split::kTest)));
  EXPECT_NEAR(floors.passt_rmse, 0.08, 0.06);
}

}  // namespace
}  // namespace onpa::apps
