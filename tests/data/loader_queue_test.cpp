#include "data/loader_queue.h"

#include <gtest/gtest.h>

#include "tests/data/loader_support.h"

namespace onpa::data {
namespace {

// One worker makes items in the order in which they are wanted, so the last one taken says that the
// others are made. What is made after its file has gone is bad.
class ItemQueueTest : public AudioLoaderTest {
 protected:
  void want_and_make(const std::vector<std::int64_t>& positions) {
    queue_.want(positions);
    queue_.take(positions.back());
  }
  void lose(std::size_t row) { data_.tracks[row].audio = "gone.mp3"; }

  DataSet data_ = good_set();
  const std::vector<std::int64_t> rows_ = all_rows();
  const std::vector<EpochItem> items_ = items_of(rows_);
  const LoaderOptions options_ = plain_options(1);
  ItemMaker maker_{data_, rows_, options_};
  ItemQueue queue_{maker_, 1};
};

TEST_F(ItemQueueTest, KeepsWhatIsStillWanted) {
  queue_.start(0, items_);
  want_and_make({2, 3, 0});
  lose(2);
  lose(3);
  want_and_make({5, 3, 4});
  EXPECT_TRUE(queue_.take(3).good);
  EXPECT_TRUE(queue_.take(5).good);
  EXPECT_FALSE(queue_.take(2).good);  // made again
}

TEST_F(ItemQueueTest, ForgetsTheEpochBefore) {
  queue_.start(0, items_);
  want_and_make({2, 0});
  lose(2);
  queue_.start(1, items_);
  EXPECT_FALSE(queue_.take(2).good);
}

TEST_F(ItemQueueTest, GivesWhatNobodyWanted) {
  queue_.start(0, items_of({7, 8}));
  EXPECT_EQ(queue_.size(), 2);
  EXPECT_EQ(queue_.take(1).row, 8);
  queue_.want({0, 0});
  EXPECT_EQ(queue_.take(0).row, 7);
  queue_.want_too(1);
  EXPECT_EQ(queue_.take(1).row, 8);
}

}  // namespace
}  // namespace onpa::data
