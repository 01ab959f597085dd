#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tests/data/loader_support.h"

namespace onpa::data {
namespace {

using testing::expect_error;

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

TEST_F(AudioLoaderTest, ABadTrackStaysBadWhenItsFileIsRepaired) {
  DataSet data = good_set();
  data.tracks[3].audio = "late.mp3";
  AudioLoader loader(data, all_rows(), plain_options(2));
  const auto before = epoch_of(loader, 0);
  std::filesystem::copy_file(*folder_ / "3.mp3", *folder_ / "late.mp3");
  EXPECT_TRUE(epoch_of(loader, 0) == before);
  AudioLoader another(data, all_rows(), plain_options(2));
  EXPECT_EQ(rows_of(epoch_of(another, 0)), all_rows());
  std::filesystem::remove(*folder_ / "late.mp3");
}

TEST_F(AudioLoaderTest, TracksWithoutAudioAreBad) {
  DataSet data = good_set();
  data.tracks[2].audio = "";
  AudioLoader loader(data, all_rows(), plain_options(0));
  epoch_of(loader, 0);
  ASSERT_EQ(loader.bad_tracks().size(), 1u);
  EXPECT_NE(loader.bad_tracks()[0].reason.find("track \"2\""), std::string::npos);
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
