#include "data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "audio/decode.h"
#include "tests/data/loader_support.h"

namespace onpa::data {
namespace {

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
  const testing::TempFolder cache;
  const DataSet data = spoilt_set();
  LoaderOptions options = training_options(3);
  options.cache_folder = cache / "pcm";
  AudioLoader cold(data, all_rows(), options), warm(data, all_rows(), options);
  const auto batches = epoch_of(cold, 0);
  EXPECT_EQ(batches.size(), 4u);
  EXPECT_TRUE(epoch_of(warm, 0) == batches);
  EXPECT_TRUE(epoch_of(cold, 0) == batches);
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

}  // namespace
}  // namespace onpa::data
