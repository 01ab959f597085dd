#include "data/loader_queue.h"

#include <algorithm>
#include <utility>

namespace onpa::data {

// Delegates, so that the destructor ends the threads there are if one cannot be started.
ItemQueue::ItemQueue(ItemMaker& maker, int workers) : ItemQueue(maker) {
  for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { run_worker(); });
}

ItemQueue::~ItemQueue() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  maker_.cancel();
  for (std::thread& thread : threads_) thread.join();
}

void ItemQueue::run_worker() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return stop_ || !wanted_.empty(); });
    if (stop_) return;
    const std::int64_t position = wanted_.front();
    wanted_.pop_front();
    under_way_.insert(position);
    const std::uint64_t epoch = epoch_, generation = generation_;
    const EpochItem what = item(position);
    lock.unlock();
    LoaderItem made = maker_.make(epoch, what);
    lock.lock();
    // A restarted epoch has no use for items of the one before.
    if (generation != generation_) continue;
    under_way_.erase(position);
    done_.emplace(position, std::move(made));
    ready_.notify_one();
  }
}

void ItemQueue::start(std::uint64_t epoch, std::vector<EpochItem> items) {
  const std::lock_guard lock(mutex_);
  ++generation_;
  epoch_ = epoch;
  items_ = std::move(items);
  wanted_.clear();
  under_way_.clear();
  done_.clear();
}

void ItemQueue::want(const std::vector<std::int64_t>& positions) {
  if (threads_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    std::set<std::int64_t> named(positions.begin(), positions.end());
    std::erase_if(done_, [&](const auto& entry) { return !named.contains(entry.first); });
    wanted_.clear();
    for (const std::int64_t position : positions) {
      const bool first_time = named.erase(position) > 0;
      if (first_time && !done_.contains(position) && !under_way_.contains(position)) {
        wanted_.push_back(position);
      }
    }
  }
  work_.notify_all();
}

void ItemQueue::want_too(std::int64_t position) {
  if (threads_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    wanted_.push_back(position);
  }
  work_.notify_one();
}

LoaderItem ItemQueue::take(std::int64_t position) {
  if (threads_.empty()) return maker_.make(epoch_, item(position));
  std::unique_lock lock(mutex_);
  if (!done_.contains(position) && !under_way_.contains(position) &&
      std::ranges::find(wanted_, position) == wanted_.end()) {
    wanted_.push_front(position);
    work_.notify_one();
  }
  ready_.wait(lock, [&] { return done_.contains(position); });
  return std::move(done_.extract(position).mapped());
}

}  // namespace onpa::data
