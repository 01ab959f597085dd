// Batches that several ranks share: together the ranks have what one rank has.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "tests/data/loader_support.h"
#include "tests/support/shard_ranks.h"

namespace onpa::data {
namespace {

using testing::Meeting;
using testing::outcomes_of_ranks;
using testing::run_ranks;
using testing::text_of;

constexpr int kWorlds[] = {1, 2, 3, 4, 7};

struct Piece {  // of a batch, on one rank
  Copied clips;
  std::int64_t samples, total, first;
  std::uint64_t draw;
};
using Pieces = std::vector<std::vector<Piece>>;  // by rank

std::vector<Piece> rest_of_rank(AudioLoader& loader) {
  std::vector<Piece> out;
  for (AudioBatch b; loader.next(b);) {
    out.push_back({copy_of(b), b.samples, b.total, b.first, b.draw});
  }
  return out;
}

struct Start {
  std::uint64_t epoch = 0;
  std::int64_t cursor = 0;
  std::uint64_t draw = 0;
};

// The batches of an epoch, and rank by rank the tracks that are known to be bad after it.
struct Shared {
  Pieces pieces;
  std::vector<std::vector<BadTrack>> bad;
};

Shared load_shared(const DataSet& data, const LoaderOptions& options, int world,
                   const std::vector<Start>& starts) {
  Shared out;
  out.pieces.resize(static_cast<std::size_t>(world));
  out.bad.resize(static_cast<std::size_t>(world));
  run_ranks(world, [&](const Shard& shard) {
    const auto rank = static_cast<std::size_t>(shard.rank);
    LoaderOptions own = options;
    if (own.workers > 0) own.workers += shard.rank % 3;  // which must not matter
    AudioLoader loader(data, all_rows(), own, shard);
    for (const Start& start : starts) {
      loader.start_epoch(start.epoch, start.cursor, start.draw);
      const auto pieces = rest_of_rank(loader);
      out.pieces[rank].insert(out.pieces[rank].end(), pieces.begin(), pieces.end());
    }
    out.bad[rank] = loader.bad_tracks();
  });
  return out;
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from, std::int64_t count) {
  to.insert(to.end(), from.begin(), from.begin() + count);
}

// The whole batches, partners left out; checks that the ranks agree on what they are.
std::vector<Copied> joined(const Pieces& ranks) {
  std::vector<Copied> out;
  for (const auto& pieces : ranks) {
    EXPECT_EQ(pieces.size(), ranks[0].size());
    if (pieces.size() != ranks[0].size()) return out;
  }
  for (std::size_t b = 0; b < ranks[0].size(); ++b) {
    Copied whole = {};
    whole.next_cursor = ranks[0][b].clips.next_cursor;
    whole.samples = ranks[0][b].clips.samples;
    for (const auto& pieces : ranks) {
      const Piece& piece = pieces[b];
      EXPECT_EQ(piece.first, std::ssize(whole.rows));
      EXPECT_EQ(piece.total, ranks[0][b].total);
      EXPECT_EQ(piece.draw, ranks[0][b].draw);
      EXPECT_EQ(piece.clips.next_cursor, whole.next_cursor);
      EXPECT_EQ(piece.clips.samples, whole.samples);
      EXPECT_EQ(std::ssize(piece.clips.wave), std::ssize(piece.clips.rows) * whole.samples);
      append(whole.rows, piece.clips.rows, piece.samples);
      append(whole.ids, piece.clips.ids, piece.samples);
      append(whole.target, piece.clips.target, piece.samples);
      append(whole.wave, piece.clips.wave, piece.samples * whole.samples);
    }
    EXPECT_EQ(std::ssize(whole.rows), ranks[0][b].total);
    out.push_back(std::move(whole));
  }
  return out;
}

// Another for each batch and each draw.
std::vector<std::int32_t> rotated(std::int64_t total, std::uint64_t draw) {
  std::vector<std::int32_t> partner;
  for (std::int64_t i = 0; i < total; ++i) {
    partner.push_back(static_cast<std::int32_t>((i + 1 + static_cast<std::int64_t>(draw)) % total));
  }
  return partner;
}

// Behind a rank's clips come their partners, as they are in the whole batches.
void expect_partners(const Pieces& ranks, const std::vector<Copied>& batches,
                     std::uint64_t first_draw) {
  for (const auto& pieces : ranks) {
    for (std::size_t b = 0; b < pieces.size(); ++b) {
      const Piece& piece = pieces[b];
      EXPECT_EQ(piece.draw, first_draw + b);
      ASSERT_EQ(std::ssize(piece.clips.rows), 2 * piece.samples);
      const auto partner = rotated(piece.total, piece.draw);
      for (std::int64_t i = 0; i < piece.samples; ++i) {
        const std::int64_t from = partner[static_cast<std::size_t>(piece.first + i)];
        const std::int64_t at = piece.samples + i, length = piece.clips.samples;
        EXPECT_EQ(piece.clips.rows[static_cast<std::size_t>(at)],
                  batches[b].rows[static_cast<std::size_t>(from)]);
        EXPECT_EQ(piece.clips.ids[static_cast<std::size_t>(at)],
                  batches[b].ids[static_cast<std::size_t>(from)]);
        EXPECT_EQ(piece.clips.target[static_cast<std::size_t>(at)],
                  batches[b].target[static_cast<std::size_t>(from)]);
        EXPECT_TRUE(std::equal(batches[b].wave.begin() + from * length,
                               batches[b].wave.begin() + (from + 1) * length,
                               piece.clips.wave.begin() + at * length));
      }
    }
  }
}

void expect_same_bad(const std::vector<BadTrack>& got, const std::vector<BadTrack>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].row, want[i].row);
    EXPECT_EQ(got[i].path, want[i].path);
    EXPECT_EQ(got[i].reason, want[i].reason);
  }
}

// Two epochs in batches of 4, the last of 2, whose clips and targets are mixed with other tracks,
// bad ones among them.
TEST_F(AudioLoaderTest, RanksTogetherHaveTheBatchesOfOne) {
  const DataSet data = spoilt_set();
  AudioLoader alone(data, all_rows(), training_options(0));
  std::vector<Copied> want = epoch_of(alone, 0);
  for (const Copied& batch : epoch_of(alone, 1)) want.push_back(batch);
  ASSERT_EQ(want.size(), 8u);
  for (const int world : kWorlds) {
    for (const int workers : {0, 2}) {
      SCOPED_TRACE(::testing::Message() << world << " ranks, " << workers << " workers");
      const Shared got = load_shared(data, training_options(workers), world, {{0}, {1}});
      EXPECT_TRUE(joined(got.pieces) == want);
      for (const auto& bad : got.bad) expect_same_bad(bad, alone.bad_tracks());
    }
  }
}

TEST_F(AudioLoaderTest, WholeClipsArePaddedToTheLongestOfAllRanks) {
  const DataSet data = spoilt_set();
  LoaderOptions options = plain_options(0);
  options.shuffle = true;
  options.batch_size = 5;
  AudioLoader alone(data, all_rows(), options);
  const std::vector<Copied> want = epoch_of(alone, 3);
  for (const int world : kWorlds) {
    SCOPED_TRACE(world);
    EXPECT_TRUE(joined(load_shared(data, options, world, {{3}}).pieces) == want);
  }
}

TEST_F(AudioLoaderTest, PartnersComeAlong) {
  const DataSet data = spoilt_set();
  for (const bool whole_clips : {false, true}) {
    LoaderOptions options = training_options(2);
    if (whole_clips) options.seconds = 0;
    options.partners = rotated;
    AudioLoader alone(data, all_rows(), options);
    const std::vector<Copied> want = epoch_of(alone, 2);
    for (const Copied& batch : want)
      EXPECT_EQ(batch.rows.size(), batch.next_cursor == 17 ? 2u : 4u);
    for (const int world : {2, 3, 4, 7}) {
      for (const int workers : {0, 2}) {
        SCOPED_TRACE(::testing::Message() << world << " ranks, " << workers << " workers");
        options.workers = workers;
        const Shared got = load_shared(data, options, world, {{2, 0, 11}});
        EXPECT_TRUE(joined(got.pieces) == want);
        expect_partners(got.pieces, want, 11);
      }
    }
  }
}

TEST_F(AudioLoaderTest, ResumesWithAnotherNumberOfRanks) {
  const DataSet data = spoilt_set();
  LoaderOptions options = training_options(2);
  options.partners = rotated;
  AudioLoader alone(data, all_rows(), options);
  const std::vector<Copied> want = epoch_of(alone, 1);
  for (const auto& [before, after] : {std::pair(1, 3), std::pair(4, 1), std::pair(3, 7)}) {
    const Pieces whole = load_shared(data, options, before, {{1}}).pieces;
    for (std::size_t done = 0; done <= want.size(); ++done) {
      SCOPED_TRACE(::testing::Message() << before << " to " << after << " after " << done);
      const std::int64_t cursor = done == 0 ? 0 : whole[0][done - 1].clips.next_cursor;
      const std::vector<Copied> rest(want.begin() + static_cast<std::ptrdiff_t>(done), want.end());
      const Pieces got = load_shared(data, options, after, {{1, cursor, done}}).pieces;
      EXPECT_TRUE(joined(got) == rest);
      if (after > 1) expect_partners(got, rest, done);
    }
  }
}

TEST_F(AudioLoaderTest, RanksMayRestartInTheMiddle) {
  const DataSet data = spoilt_set();
  AudioLoader alone(data, all_rows(), training_options(0));
  const std::vector<Copied> want = epoch_of(alone, 2);
  Pieces pieces(3);
  run_ranks(3, [&](const Shard& shard) {
    AudioLoader loader(data, all_rows(), training_options(2), shard);
    AudioBatch batch;
    loader.start_epoch(0);
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(loader.next(batch));
    loader.start_epoch(2);
    pieces[static_cast<std::size_t>(shard.rank)] = rest_of_rank(loader);
    EXPECT_FALSE(loader.next(batch));
  });
  EXPECT_TRUE(joined(pieces) == want);
}

TEST_F(AudioLoaderTest, ShortBatchesAreLeftOutByAllRanks) {
  const DataSet data = spoilt_set();
  LoaderOptions options = training_options(2);
  options.drop_last = true;
  const Shared got = load_shared(data, options, 3, {{0}});
  EXPECT_EQ(joined(got.pieces).size(), 3u);
  // None is good in the end: an epoch without a batch.
  options = training_options(2);
  options.max_bad_fraction = 1;
  run_ranks(4, [&](const Shard& shard) {
    AudioLoader loader(data, {4, 9, 10}, options, shard);
    loader.start_epoch(0);
    AudioBatch batch;
    EXPECT_FALSE(loader.next(batch));
    EXPECT_EQ(loader.bad_tracks().size(), 3u);
    AudioLoader nothing(data, {}, options, shard);
    nothing.start_epoch(0);
    EXPECT_FALSE(nothing.next(batch));
  });
}

TEST_F(AudioLoaderTest, AFailureOfOneRankStopsAll) {
  const DataSet data = good_set();
  for (const int workers : {0, 2}) {
    SCOPED_TRACE(workers);
    const auto outcomes = outcomes_of_ranks(3, [&](const Shard& shard) {
      LoaderOptions options = training_options(workers);
      if (shard.rank == 1) options.roll_samples = std::int64_t{1} << 40;  // more than can be drawn
      AudioLoader loader(data, all_rows(), options, shard);
      loader.start_epoch(0);
      AudioBatch batch;
      loader.next(batch);
    });
    for (const std::size_t other : {0, 2}) {
      EXPECT_EQ(text_of(outcomes[other]),
                "75: loader: rank 1 failed to load its part of a batch and says why");
    }
    EXPECT_EQ(text_of(outcomes[1]).rfind("70: ", 0), 0u);
    EXPECT_NE(text_of(outcomes[1]).find("random_roll"), std::string::npos);
  }
}

TEST_F(AudioLoaderTest, TooManyBadTracksStopAllRanksAlike) {
  const DataSet data = spoilt_set();
  LoaderOptions options = plain_options(2);
  options.max_bad_fraction = 2.0 / kTracks;
  const auto load = [&](const Shard& shard) {
    AudioLoader loader(data, all_rows(), options, shard);
    loader.start_epoch(0);
    AudioBatch batch;
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(loader.next(batch));
    loader.next(batch);
  };
  const std::string want = text_of(outcomes_of_ranks(1, load)[0]);
  EXPECT_EQ(want.rfind("65: loader: 3 of 17 tracks", 0), 0u) << want;
  for (const int world : {2, 4, 7}) {
    for (const auto& outcome : outcomes_of_ranks(world, load)) EXPECT_EQ(text_of(outcome), want);
  }
  options.max_bad_fraction = 3.0 / kTracks;
  EXPECT_EQ(joined(load_shared(data, options, 4, {{0}}).pieces).size(), 4u);
}

// Who loads it may be the rank that cannot, or not; all do the same in either case.
TEST_F(AudioLoaderTest, ATrackThatOneRankCannotReadIsLeftOutByAll) {
  const DataSet good = good_set();
  DataSet poor = good;
  for (const std::size_t row : {2, 5, 11}) poor.tracks[row].audio = "missing.mp3";
  LoaderOptions options = training_options(2);
  options.wave_mixup_probability = 0;
  options.partners = rotated;
  Pieces pieces(3);
  std::vector<std::vector<BadTrack>> bad(3);
  run_ranks(3, [&](const Shard& shard) {
    const auto rank = static_cast<std::size_t>(shard.rank);
    AudioLoader loader(shard.rank == 1 ? poor : good, all_rows(), options, shard);
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
      loader.start_epoch(epoch, 0, 10 * epoch);
      const auto epoch_pieces = rest_of_rank(loader);
      if (epoch == 2) pieces[rank] = epoch_pieces;
    }
    bad[rank] = loader.bad_tracks();
  });
  EXPECT_FALSE(bad[0].empty());
  for (const auto& list : bad) expect_same_bad(list, bad[0]);
  // What was bad in the epochs before is so in this one, whoever loads it.
  const std::vector<Copied> batches = joined(pieces);
  std::vector<std::int64_t> rows = rows_of(batches);
  for (const BadTrack& track : bad[0]) rows.push_back(track.row);
  EXPECT_EQ(sorted(rows), all_rows());
  expect_partners(pieces, batches, 20);
}

// A bad track is no partner for any rank, even for one that never met it before it was repaired.
TEST_F(AudioLoaderTest, ABadTrackStaysBadForAllRanks) {
  DataSet data = good_set();
  data.tracks[3].audio = "late.mp3";
  LoaderOptions options = training_options(2);
  options.wave_mixup_probability = 1;
  const auto repair = [&] {
    std::filesystem::copy_file(*folder_ / "3.mp3", *folder_ / "late.mp3");
  };
  AudioLoader alone(data, all_rows(), options);
  epoch_of(alone, 0);
  repair();
  std::vector<Copied> want;
  for (std::uint64_t epoch = 1; epoch < 9; ++epoch) append(want, epoch_of(alone, epoch), 4);
  std::filesystem::remove(*folder_ / "late.mp3");
  Pieces pieces(7);
  run_ranks(7, [&](const Shard& shard) {
    AudioLoader loader(data, all_rows(), options, shard);
    epoch_of(loader, 0);
    shard.all_gather({});  // all have read it
    if (shard.rank == 0) repair();
    shard.all_gather({});
    for (std::uint64_t epoch = 1; epoch < 9; ++epoch) {
      loader.start_epoch(epoch);
      append(pieces[static_cast<std::size_t>(shard.rank)], rest_of_rank(loader), 4);
    }
  });
  EXPECT_TRUE(joined(pieces) == want);
  std::filesystem::remove(*folder_ / "late.mp3");
}

// The cache gets a file for each track that the worker decodes.
TEST_F(AudioLoaderTest, PrefetchesItsPartAndItsPartners) {
  const testing::TempFolder cache;
  const auto decoded = [&] {
    const std::filesystem::recursive_directory_iterator files(cache.path());
    return std::count_if(begin(files), end(files),
                         [](const auto& file) { return file.path().extension() == ".pcm"; });
  };
  const DataSet data = good_set();
  LoaderOptions options = plain_options(1);
  options.prefetch_batches = 2;
  options.cache_folder = cache.path();
  options.partners = rotated;
  Meeting meeting(2);
  {
    AudioLoader loader(data, all_rows(), options, testing::shard_at(meeting, 0, 2));
    // Two batches: clips 0 and 1 of each, with 1 and 2 of the first, then with 2 and 3.
    loader.start_epoch(0, 0, 0);
    const auto start = std::chrono::steady_clock::now();
    while (decoded() < 7 && std::chrono::steady_clock::now() - start < testing::kPatience) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  EXPECT_EQ(decoded(), 7);
}

TEST_F(AudioLoaderTest, ChecksItsShard) {
  const DataSet data = good_set();
  testing::expect_error(ExitCode::kInternal, {"rank 2 of 2"}, [&] {
    AudioLoader(data, all_rows(), plain_options(0),
                {.rank = 2, .size = 2, .all_max = {}, .all_gather = {}});
  });
  testing::expect_error(ExitCode::kInternal, {"2 ranks without"}, [&] {
    AudioLoader(data, all_rows(), plain_options(0),
                {.rank = 0, .size = 2, .all_max = {}, .all_gather = {}});
  });
}

}  // namespace
}  // namespace onpa::data
