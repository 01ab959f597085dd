#include "data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "audio/encode.h"
#include "tests/data/support.h"

namespace onpa::data {
namespace {

using test::expect_error;
using test::TempFolder;
using test::write_text;

constexpr int kTracks = 17;
const std::set<std::int64_t> kBadRows = {4, 9, 10};

// Mp3 files of 0.15 to 0.39 s, of which kBadRows are missing, text and zeros.
class AudioLoaderTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    for (int i = 0; i < kTracks; ++i) {
      audio::Clip clip;
      clip.samples.resize(static_cast<std::size_t>(4800 + 480 * i));
      for (std::size_t t = 0; t < clip.samples.size(); ++t) {
        clip.samples[t] =
            0.5f * std::sin(0.01f * static_cast<float>(i + 3) * static_cast<float>(t));
      }
      const auto bytes = audio::encode_mp3(clip);
      write_text(*folder_ / (std::to_string(i) + ".mp3"),
                 {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    write_text(*folder_ / "text.mp3", "not audio at all");
    write_text(*folder_ / "zeros.mp3", std::string(5000, '\0'));
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static DataSet good_set() {
    DataSet data;
    data.audio_root = folder_->path();
    for (int i = 0; i < kTracks; ++i) {
      Track track{.id = std::to_string(i), .audio = std::to_string(i) + ".mp3"};
      track.target = static_cast<float>(i) / kTracks - 0.5f;
      data.tracks.push_back(track);
    }
    return data;
  }
  static DataSet spoilt_set() {
    DataSet data = good_set();
    data.tracks[4].audio = "missing.mp3";
    data.tracks[9].audio = "text.mp3";
    data.tracks[10].audio = "zeros.mp3";
    return data;
  }

  static std::unique_ptr<TempFolder> folder_;
};
std::unique_ptr<TempFolder> AudioLoaderTest::folder_;

std::vector<std::int64_t> all_rows() {
  std::vector<std::int64_t> rows(kTracks);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

LoaderOptions training_options(int workers) {
  LoaderOptions options;
  options.batch_size = 4;
  options.seconds = 0.2;
  options.seed = 5;
  options.workers = workers;
  options.prefetch_batches = 2;
  options.gain_low_db = -7;
  options.gain_high_db = 6;
  options.roll_samples = 50;
  options.wave_mixup_probability = 0.5f;
  options.max_bad_fraction = 0.5;
  return options;
}

LoaderOptions plain_options(int workers) {
  LoaderOptions options;
  options.batch_size = 4;
  options.shuffle = options.train = false;
  options.workers = workers;
  options.max_bad_fraction = 0.5;
  return options;
}

struct Copied {
  std::vector<float> wave, target;
  std::vector<std::int64_t> rows;
  std::vector<std::uint64_t> ids;
  std::int64_t next_cursor, samples;
  bool operator==(const Copied&) const = default;
};

Copied copy_of(const AudioBatch& b) {
  return {b.wave.to_vector<float>(),
          b.target.to_vector<float>(),
          b.rows,
          b.ids,
          b.next_cursor,
          b.wave.size(1)};
}

std::vector<Copied> rest_of(AudioLoader& loader) {
  std::vector<Copied> batches;
  for (AudioBatch batch; loader.next(batch);) batches.push_back(copy_of(batch));
  return batches;
}

std::vector<Copied> epoch_of(AudioLoader& loader, std::uint64_t epoch, std::int64_t cursor = 0) {
  loader.start_epoch(epoch, cursor);
  return rest_of(loader);
}

std::vector<std::int64_t> rows_of(const std::vector<Copied>& batches) {
  std::vector<std::int64_t> rows;
  for (const Copied& batch : batches) rows.insert(rows.end(), batch.rows.begin(), batch.rows.end());
  return rows;
}

std::vector<std::int64_t> sorted(std::vector<std::int64_t> rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::vector<std::int64_t> good_rows() {
  std::vector<std::int64_t> rows = all_rows();
  std::erase_if(rows, [](std::int64_t row) { return kBadRows.contains(row); });
  return rows;
}

TEST(EpochOrder, IsAPermutationFromSeedAndEpoch) {
  for (const std::int64_t n : {0, 1, 2, 97}) {
    std::vector<std::int64_t> identity(static_cast<std::size_t>(n));
    std::iota(identity.begin(), identity.end(), 0);
    EXPECT_EQ(epoch_order(n, 1, 0, false), identity);
    EXPECT_EQ(sorted(epoch_order(n, 1, 0, true)), identity);
    EXPECT_EQ(epoch_order(n, 1, 0, true), epoch_order(n, 1, 0, true));
  }
  EXPECT_NE(epoch_order(97, 1, 0, true), epoch_order(97, 1, 1, true));
  EXPECT_NE(epoch_order(97, 1, 0, true), epoch_order(97, 2, 0, true));
}

TEST_F(AudioLoaderTest, BatchesDoNotDependOnTheWorkers) {
  const DataSet data = spoilt_set();
  AudioLoader alone(data, all_rows(), training_options(0));
  const auto first = epoch_of(alone, 0), second = epoch_of(alone, 1);
  ASSERT_EQ(first.size(), 4u);
  EXPECT_NE(rows_of(first), rows_of(second));
  for (const int workers : {1, 4}) {
    SCOPED_TRACE(workers);
    AudioLoader loader(data, all_rows(), training_options(workers));
    EXPECT_TRUE(epoch_of(loader, 0) == first);
    EXPECT_TRUE(epoch_of(loader, 1) == second);
    ASSERT_EQ(loader.bad_tracks().size(), alone.bad_tracks().size());
    for (std::size_t i = 0; i < loader.bad_tracks().size(); ++i) {
      EXPECT_EQ(loader.bad_tracks()[i].row, alone.bad_tracks()[i].row);
      EXPECT_EQ(loader.bad_tracks()[i].reason, alone.bad_tracks()[i].reason);
    }
  }
}

TEST_F(AudioLoaderTest, EveryGoodTrackComesOnceAnEpoch) {
  const DataSet data = spoilt_set();
  AudioLoader loader(data, all_rows(), training_options(2));
  for (const std::uint64_t epoch : {0, 1, 7}) {
    const auto batches = epoch_of(loader, epoch);
    EXPECT_EQ(sorted(rows_of(batches)), good_rows());
    for (std::size_t b = 0; b + 1 < batches.size(); ++b) EXPECT_EQ(batches[b].rows.size(), 4u);
    for (const Copied& batch : batches) {
      EXPECT_TRUE(std::equal(batch.rows.begin(), batch.rows.end(), batch.ids.begin()));
    }
  }
}

TEST_F(AudioLoaderTest, BadTracksAreListedOnceWithTheirReasons) {
  const DataSet data = spoilt_set();
  AudioLoader loader(data, all_rows(), plain_options(2));
  EXPECT_EQ(rows_of(epoch_of(loader, 0)), good_rows());
  epoch_of(loader, 1);
  const auto bad = loader.bad_tracks();
  ASSERT_EQ(bad.size(), 3u);
  const char* names[] = {"missing.mp3", "text.mp3", "zeros.mp3"};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(kBadRows.contains(bad[i].row));
    EXPECT_NE(bad[i].path.find(names[i]), std::string::npos) << bad[i].path;
    EXPECT_NE(bad[i].reason.find(names[i]), std::string::npos) << bad[i].reason;
  }
}

TEST_F(AudioLoaderTest, ResumesAfterAnyBatch) {
  const DataSet data = spoilt_set();
  AudioLoader whole(data, all_rows(), training_options(2));
  const auto batches = epoch_of(whole, 3);
  for (std::size_t done = 0; done <= batches.size(); ++done) {
    SCOPED_TRACE(done);
    AudioLoader resumed(data, all_rows(), training_options(2));
    const std::int64_t cursor = done == 0 ? 0 : batches[done - 1].next_cursor;
    const std::vector<Copied> want(batches.begin() + static_cast<std::ptrdiff_t>(done),
                                   batches.end());
    EXPECT_TRUE(epoch_of(resumed, 3, cursor) == want);
  }
  // The bad files make the cursor differ from the number of items seen.
  EXPECT_EQ(batches.back().next_cursor, kTracks);
}

TEST_F(AudioLoaderTest, AugmentationBelongsToTheTrack) {
  const DataSet data = good_set();
  LoaderOptions options = training_options(2);
  AudioLoader fours(data, all_rows(), options);
  options.batch_size = 7;
  AudioLoader sevens(data, all_rows(), options);
  const auto waves_by_row = [](const std::vector<Copied>& batches) {
    std::vector<std::vector<float>> waves(kTracks);
    for (const Copied& batch : batches) {
      for (std::size_t i = 0; i < batch.rows.size(); ++i) {
        const auto at = batch.wave.begin() + static_cast<std::ptrdiff_t>(i) * batch.samples;
        waves[static_cast<std::size_t>(batch.rows[i])].assign(at, at + batch.samples);
      }
    }
    return waves;
  };
  const auto epoch0 = waves_by_row(epoch_of(fours, 0));
  EXPECT_EQ(epoch0, waves_by_row(epoch_of(sevens, 0)));
  EXPECT_NE(epoch0, waves_by_row(epoch_of(fours, 1)));
}

TEST_F(AudioLoaderTest, EvaluationHearsTheDecodedFile) {
  const DataSet data = good_set();
  AudioLoader loader(data, all_rows(), plain_options(2));
  const auto batches = epoch_of(loader, 0);
  EXPECT_EQ(rows_of(batches), all_rows());
  for (const Copied& batch : batches) {
    // seconds == 0: as long as the longest, which is the last one.
    const std::size_t last = batch.rows.size() - 1;
    for (std::size_t i = 0; i <= last; ++i) {
      const Track& track = data.tracks[static_cast<std::size_t>(batch.rows[i])];
      std::vector<float> want = audio::decode_file(data.audio_root / track.audio).samples;
      if (i == last) {
        EXPECT_EQ(batch.samples, std::ssize(want));
      }
      want.resize(static_cast<std::size_t>(batch.samples));
      const auto at = batch.wave.begin() + static_cast<std::ptrdiff_t>(i) * batch.samples;
      EXPECT_TRUE(std::equal(want.begin(), want.end(), at)) << track.audio;
      EXPECT_EQ(batch.target[i], track.target);
    }
  }
}

TEST_F(AudioLoaderTest, MixupMixesTargetsWithAnotherTrack) {
  const DataSet data = good_set();
  LoaderOptions options = training_options(0);
  options.wave_mixup_probability = 1;
  AudioLoader loader(data, all_rows(), options);
  int moved = 0;
  for (const Copied& batch : epoch_of(loader, 0)) {
    for (std::size_t i = 0; i < batch.rows.size(); ++i) {
      const float own = data.tracks[static_cast<std::size_t>(batch.rows[i])].target;
      // Its own weight is at least a half, so the target moves at most half way to the farthest.
      const float low = (own + data.tracks.front().target) / 2;
      const float high = (own + data.tracks.back().target) / 2;
      EXPECT_GE(batch.target[i], low - 1e-6f);
      EXPECT_LE(batch.target[i], high + 1e-6f);
      moved += batch.target[i] != own;
      const auto at = batch.wave.begin() + static_cast<std::ptrdiff_t>(i) * batch.samples;
      EXPECT_NEAR(std::accumulate(at, at + batch.samples, 0.0) / static_cast<double>(batch.samples),
                  0, 1e-6);
    }
  }
  EXPECT_GT(moved, kTracks / 2);
}

TEST_F(AudioLoaderTest, CacheColdOrWarmGivesTheSame) {
  const TempFolder cache;
  const DataSet data = spoilt_set();
  LoaderOptions options = training_options(3);
  options.cache_folder = cache / "pcm";
  AudioLoader cold(data, all_rows(), options), warm(data, all_rows(), options);
  const auto batches = epoch_of(cold, 0);
  EXPECT_EQ(batches.size(), 4u);
  EXPECT_TRUE(epoch_of(warm, 0) == batches);
  EXPECT_TRUE(epoch_of(cold, 0) == batches);
}

TEST_F(AudioLoaderTest, TooManyBadTracksStopTheRun) {
  const DataSet data = spoilt_set();
  for (const int workers : {0, 3}) {
    SCOPED_TRACE(workers);
    LoaderOptions options = plain_options(workers);
    options.max_bad_fraction = 2.0 / kTracks;
    AudioLoader loader(data, all_rows(), options);
    loader.start_epoch(0);
    AudioBatch batch;
    // Rows 0 to 8 hold one bad track: two full batches before the third is met.
    EXPECT_TRUE(loader.next(batch));
    EXPECT_TRUE(loader.next(batch));
    for (int again = 0; again < 2; ++again) {
      expect_error(ExitCode::kBadData,
                   {"3 of 17 tracks", "11.7", "missing.mp3", "text.mp3", "zeros.mp3"},
                   [&] { loader.next(batch); });
    }
    EXPECT_EQ(loader.bad_tracks().size(), 3u);
  }
}

TEST_F(AudioLoaderTest, TheLimitItselfIsAllowed) {
  const DataSet data = spoilt_set();
  LoaderOptions options = plain_options(1);
  options.max_bad_fraction = 3.0 / kTracks;
  AudioLoader loader(data, all_rows(), options);
  EXPECT_EQ(rows_of(epoch_of(loader, 0)).size(), 14u);
}

TEST_F(AudioLoaderTest, AnEpochOfBadTracksIsEmpty) {
  const DataSet data = spoilt_set();
  for (const bool mixup : {false, true}) {
    LoaderOptions options = training_options(2);
    options.max_bad_fraction = 1;
    options.wave_mixup_probability = mixup ? 1.0f : 0.0f;
    AudioLoader loader(data, {4, 9, 10}, options);
    EXPECT_TRUE(epoch_of(loader, 0).empty());
    AudioLoader nothing(data, {}, options);
    EXPECT_TRUE(epoch_of(nothing, 0).empty());
    EXPECT_EQ(nothing.batches_per_epoch(), 0);
    // One good track: its partners are bad most of the time, and it still comes.
    AudioLoader one(data, {4, 9, 10, 0}, options);
    EXPECT_EQ(rows_of(epoch_of(one, 0)), std::vector<std::int64_t>{0});
  }
}

TEST_F(AudioLoaderTest, TracksWithoutAudioAreBad) {
  DataSet data = good_set();
  data.tracks[2].audio = "";
  AudioLoader loader(data, all_rows(), plain_options(0));
  epoch_of(loader, 0);
  ASSERT_EQ(loader.bad_tracks().size(), 1u);
  EXPECT_NE(loader.bad_tracks()[0].reason.find("track \"2\""), std::string::npos);
}

TEST_F(AudioLoaderTest, DropLastLeavesOutTheShortBatch) {
  const DataSet data = good_set();
  LoaderOptions options = plain_options(2);
  AudioLoader keeps(data, all_rows(), options);
  EXPECT_EQ(keeps.batches_per_epoch(), 5);
  EXPECT_EQ(epoch_of(keeps, 0).back().rows.size(), 1u);
  options.drop_last = true;
  AudioLoader drops(data, all_rows(), options);
  EXPECT_EQ(drops.batches_per_epoch(), 4);
  EXPECT_EQ(epoch_of(drops, 0).size(), 4u);
}

TEST_F(AudioLoaderTest, MayStopOrRestartInTheMiddle) {
  const DataSet data = good_set();
  for (const int workers : {0, 1, 4}) {
    SCOPED_TRACE(workers);
    AudioLoader reference(data, all_rows(), training_options(workers));
    const auto want = epoch_of(reference, 2);
    for (int batches = 0; batches < 3; ++batches) {
      AudioLoader loader(data, all_rows(), training_options(workers));
      loader.start_epoch(0);
      AudioBatch batch;
      for (int b = 0; b < batches; ++b) EXPECT_TRUE(loader.next(batch));
      if (batches < 2) {
        EXPECT_TRUE(epoch_of(loader, 2) == want);
        EXPECT_FALSE(loader.next(batch));
      }
    }
    const AudioLoader never_started(data, all_rows(), training_options(workers));
  }
}

TEST_F(AudioLoaderTest, OtherErrorsComeWithTheFileName) {
  const DataSet data = good_set();
  for (const int workers : {0, 2}) {
    LoaderOptions options = training_options(workers);
    options.shuffle = false;
    options.roll_samples = std::int64_t{1} << 40;  // more than a draw can give
    AudioLoader loader(data, all_rows(), options);
    loader.start_epoch(0);
    AudioBatch batch;
    expect_error(ExitCode::kInternal, {"/0.mp3", "random_roll"}, [&] { loader.next(batch); });
  }
}

TEST_F(AudioLoaderTest, ChecksItsOptions) {
  const DataSet data = good_set();
  const auto expect_refused = [&](const char* name, const auto& spoil) {
    LoaderOptions options = training_options(0);
    spoil(options);
    expect_error(ExitCode::kConfig, {name}, [&] { AudioLoader(data, all_rows(), options); });
  };
  expect_refused("batch_size", [](LoaderOptions& o) { o.batch_size = 0; });
  expect_refused("seconds", [](LoaderOptions& o) { o.seconds = std::nan(""); });
  expect_refused("workers", [](LoaderOptions& o) { o.workers = -1; });
  expect_refused("prefetch_batches", [](LoaderOptions& o) { o.prefetch_batches = 0; });
  expect_refused("gain_low_db", [](LoaderOptions& o) { o.gain_low_db = 9; });
  expect_refused("roll_samples", [](LoaderOptions& o) { o.roll_samples = -1; });
  expect_refused("wave_mixup", [](LoaderOptions& o) { o.wave_mixup_probability = 2; });
  expect_refused("max_bad_fraction", [](LoaderOptions& o) { o.max_bad_fraction = -1; });
  expect_error(ExitCode::kInternal, {"row 17"},
               [&] { AudioLoader(data, {17}, training_options(0)); });
  AudioLoader loader(data, all_rows(), training_options(0));
  AudioBatch batch;
  expect_error(ExitCode::kInternal, {"start_epoch"}, [&] { loader.next(batch); });
  expect_error(ExitCode::kInternal, {"cursor 18"}, [&] { loader.start_epoch(0, 18); });
}

}  // namespace
}  // namespace onpa::data
