// Worker threads that make the items of an epoch before the loader asks for them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "data/loader_item.h"

namespace onpa::data {

/// To be used by one thread. Items are known by their position in the epoch.
class ItemQueue {
 public:
  /// `maker` outlives this. Without workers take() makes the items, and wishes are not heard.
  ItemQueue(ItemMaker& maker, int workers);
  /// Waits for the items that are being made, which are cancelled.
  ~ItemQueue();
  ItemQueue(const ItemQueue&) = delete;
  ItemQueue& operator=(const ItemQueue&) = delete;

  /// From now on positions are places in `items`. What was wanted or made before is dropped.
  void start(std::uint64_t epoch, std::vector<EpochItem> items);
  std::int64_t size() const { return std::ssize(items_); }
  const EpochItem& item(std::int64_t position) const {
    return items_[static_cast<std::size_t>(position)];
  }

  /// Positions to make in advance, in this order, in place of all that were wanted before. Of what
  /// is made, or being made, that is kept which is among them.
  void want(const std::vector<std::int64_t>& positions);
  /// One more, after the others.
  void want_too(std::int64_t position);
  /// The item at `position`, wanted or not, as soon as it is made; it is gone from here then.
  LoaderItem take(std::int64_t position);

 private:
  explicit ItemQueue(ItemMaker& maker) : maker_(maker) {}
  void run_worker();

  ItemMaker& maker_;
  // Changed by the user's thread alone, under the lock, so it may read them without.
  std::uint64_t epoch_ = 0;
  std::vector<EpochItem> items_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable work_, ready_;
  bool stop_ = false;
  std::uint64_t generation_ = 0;
  std::deque<std::int64_t> wanted_;
  std::set<std::int64_t> under_way_;
  std::map<std::int64_t, LoaderItem> done_;
  std::vector<std::thread> threads_;
};

}  // namespace onpa::data
