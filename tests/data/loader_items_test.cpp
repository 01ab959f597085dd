// Epochs that are not each track once: repetitions and mixtures with a given partner.
#include <gtest/gtest.h>

#include <map>

#include "tests/data/loader_support.h"
#include "tests/support/shard_ranks.h"

namespace onpa::data {
namespace {

class LoaderItemsTest : public AudioLoaderTest {
 protected:
  // Tracks 0 to 9; tracks 3 and 4 again, mixed with others, and track 5 again as it is. With
  // spoilt_set(), track 4, a partner and a track of its own are bad.
  static std::vector<EpochItem> items(std::uint64_t epoch) {
    std::vector<EpochItem> out = items_of({0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    out.push_back({3, 100, epoch % 2 == 0 ? 6 : 7});
    out.push_back({3, 101, 4});
    out.push_back({4, 102, 3});
    out.push_back({5, 103, -1});
    return out;
  }
  static LoaderOptions options(int workers) {
    LoaderOptions out = training_options(workers);
    out.wave_mixup_probability = 0;
    out.items = items;
    return out;
  }
};

struct Heard {
  std::int64_t row = 0;
  std::vector<float> wave;
  float target = 0;
};

std::map<std::uint64_t, Heard> by_sample(const std::vector<Copied>& batches) {
  std::map<std::uint64_t, Heard> out;
  for (const Copied& batch : batches) {
    for (std::size_t i = 0; i < batch.ids.size(); ++i) {
      const auto at = batch.wave.begin() + static_cast<std::ptrdiff_t>(i) * batch.samples;
      out[batch.ids[i]] = {batch.rows[i], {at, at + batch.samples}, batch.target[i]};
    }
  }
  return out;
}

TEST_F(LoaderItemsTest, AreAllThereWithTheirPartners) {
  const DataSet data = good_set();
  AudioLoader loader(data, all_rows(), options(2));
  EXPECT_EQ(loader.items_per_epoch(), 14);
  EXPECT_EQ(loader.batches_per_epoch(), 4);
  for (const std::uint64_t epoch : {0, 1}) {
    const auto heard = by_sample(epoch_of(loader, epoch));
    ASSERT_EQ(heard.size(), 14u);
    const auto target = [&](std::size_t row) { return data.tracks[row].target; };
    for (std::size_t row = 0; row < 10; ++row) EXPECT_EQ(heard.at(row).target, target(row));
    EXPECT_EQ(heard.at(100).row, 3);
    // More than half of itself, the rest of its partner.
    const float partner = target(epoch % 2 == 0 ? 6 : 7);
    const float weight = (heard.at(100).target - partner) / (target(3) - partner);
    EXPECT_GE(weight, 0.5f);
    EXPECT_LT(weight, 1.0f);
    EXPECT_EQ(heard.at(103).target, target(5));
    // Draws of its own: another gain, cut or roll.
    EXPECT_EQ(heard.at(103).row, 5);
    EXPECT_NE(heard.at(103).wave, heard.at(5).wave);
    EXPECT_NE(heard.at(101).wave, heard.at(100).wave);
  }
}

TEST_F(LoaderItemsTest, ABadPartnerLeavesTheTrackAlone) {
  const DataSet data = spoilt_set();
  AudioLoader loader(data, all_rows(), options(2));
  const auto heard = by_sample(epoch_of(loader, 0));
  EXPECT_EQ(heard.size(), 11u);  // without tracks 4 and 9, and 4's second item
  EXPECT_FALSE(heard.contains(4) || heard.contains(9) || heard.contains(102));
  EXPECT_EQ(heard.at(101).target, data.tracks[3].target);
  EXPECT_NE(heard.at(100).target, data.tracks[3].target);
  EXPECT_EQ(loader.bad_tracks().size(), 2u);
}

TEST_F(LoaderItemsTest, DoNotDependOnWorkersOrRanksAndResume) {
  const DataSet data = spoilt_set();
  AudioLoader reference(data, all_rows(), options(0));
  const auto want = epoch_of(reference, 1);
  ASSERT_EQ(want.size(), 3u);
  AudioLoader threads(data, all_rows(), options(3));
  EXPECT_TRUE(epoch_of(threads, 1) == want);
  AudioLoader later(data, all_rows(), options(2));
  EXPECT_TRUE(epoch_of(later, 1, want[0].next_cursor) == (std::vector<Copied>{want[1], want[2]}));
  for (const int world : {2, 3}) {
    std::vector<std::vector<Copied>> parts(static_cast<std::size_t>(world));
    testing::run_ranks(world, [&](const Shard& shard) {
      AudioLoader loader(data, all_rows(), options(2), shard);
      parts[static_cast<std::size_t>(shard.rank)] = epoch_of(loader, 1);
    });
    for (std::size_t b = 0; b < want.size(); ++b) {
      Copied whole = want[b];
      whole.wave.clear();
      whole.target.clear();
      whole.rows.clear();
      whole.ids.clear();
      for (const auto& rank : parts) {
        const Copied& part = rank.at(b);
        whole.wave.insert(whole.wave.end(), part.wave.begin(), part.wave.end());
        whole.target.insert(whole.target.end(), part.target.begin(), part.target.end());
        whole.rows.insert(whole.rows.end(), part.rows.begin(), part.rows.end());
        whole.ids.insert(whole.ids.end(), part.ids.begin(), part.ids.end());
      }
      EXPECT_TRUE(whole == want[b]) << world << " ranks, batch " << b;
    }
  }
}

TEST_F(LoaderItemsTest, RefusesAnEpochOfAnotherSize) {
  const DataSet data = good_set();
  LoaderOptions other = options(0);
  other.items = [](std::uint64_t epoch) {
    return items_of(epoch == 0 ? all_rows() : std::vector<std::int64_t>{1});
  };
  AudioLoader loader(data, all_rows(), other);
  testing::expect_error(ExitCode::kInternal, {"1 items in epoch 1", "17"},
                        [&] { loader.start_epoch(1); });
}

}  // namespace
}  // namespace onpa::data
