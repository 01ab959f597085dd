#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>
#include <unordered_set>

#include "data/loader_item.h"
#include "kernels/error.h"
#include "kernels/philox.h"
#include "tensor/op_scope.h"

namespace onpa::data {
namespace {

constexpr std::size_t kReasonsShown = 5;

void check_options(const DataSet& data, const std::vector<std::int64_t>& rows,
                   const LoaderOptions& o) {
  const auto check = [](bool good, const char* name, auto got, const char* want) {
    if (!good) fail(ExitCode::kConfig, "loader: ", name, " ", got, ", want ", want);
  };
  check(o.batch_size >= 1, "batch_size", o.batch_size, "at least 1");
  check(o.seconds >= 0 && o.seconds <= 86400, "seconds", o.seconds, "0 to 86400");
  check(o.workers >= 0, "workers", o.workers, "at least 0");
  check(o.prefetch_batches >= 1, "prefetch_batches", o.prefetch_batches, "at least 1");
  check(o.gain_low_db <= o.gain_high_db, "gain_low_db", o.gain_low_db, "at most gain_high_db");
  check(o.roll_samples >= 0, "roll_samples", o.roll_samples, "at least 0");
  check(o.wave_mixup_probability >= 0 && o.wave_mixup_probability <= 1, "wave_mixup_probability",
        o.wave_mixup_probability, "0 to 1");
  check(o.max_bad_fraction >= 0 && o.max_bad_fraction <= 1, "max_bad_fraction", o.max_bad_fraction,
        "0 to 1");
  for (const std::int64_t row : rows) {
    ONPA_CHECK(row >= 0 && row < std::ssize(data.tracks), "loader: row ", row, " of ",
               data.tracks.size(), " tracks");
  }
}

}  // namespace

std::vector<std::int64_t> epoch_order(std::int64_t n, std::uint64_t seed, std::uint64_t epoch,
                                      bool shuffle) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  if (shuffle) Philox({seed, kStreamShuffle, epoch, 0}).shuffle(order);
  return order;
}

// Workers turn positions of the epoch's order into items; the consumer takes the items in order and
// fills batches with the good ones. What a batch holds so depends on no thread's speed.
struct AudioLoader::State {
  State(const DataSet& d, std::vector<std::int64_t> r, LoaderOptions o)
      : data(d), rows(std::move(r)), options(std::move(o)), maker(data, rows, options) {}
  ~State() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  const DataSet& data;
  const std::vector<std::int64_t> rows;
  const LoaderOptions options;
  ItemMaker maker;

  // Of the consumer alone.
  bool started = false;
  std::vector<BadTrack> bad;
  std::unordered_set<std::int64_t> bad_rows;
  double wait_seconds = 0;

  std::mutex mutex;  // guards what follows
  std::condition_variable work, ready;
  bool stop = false;
  std::uint64_t epoch = 0, generation = 0;
  std::vector<std::int64_t> order;  // positions in rows
  std::int64_t issued = 0;          // next position for a worker
  std::int64_t taken = 0;           // next position for the consumer
  std::map<std::int64_t, LoaderItem> done;
  std::vector<std::thread> threads;

  // Positions that may be worked on ahead of the consumer: bounds the memory in use.
  std::int64_t window() const {
    return std::max<std::int64_t>(options.prefetch_batches * options.batch_size, options.workers);
  }
  bool has_work() const { return issued < std::min(std::ssize(order), taken + window()); }
  std::int64_t row_at(std::int64_t position) const {
    return rows[static_cast<std::size_t>(order[static_cast<std::size_t>(position)])];
  }

  void run_worker() {
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stop || has_work(); });
      if (stop) return;
      const std::int64_t position = issued++;
      const std::uint64_t for_epoch = epoch, for_generation = generation;
      const std::int64_t row = row_at(position);
      lock.unlock();
      LoaderItem item = maker.make(for_epoch, row);
      lock.lock();
      // A restarted epoch has no use for items of the one before.
      if (for_generation != generation) continue;
      done.emplace(position, std::move(item));
      ready.notify_one();
    }
  }

  // The item at the next position of the order, which must exist.
  LoaderItem take() {
    const PhaseScope scope("wait_for_data", ScopeKind::kWait);
    const auto start = std::chrono::steady_clock::now();
    LoaderItem item;
    if (threads.empty()) {
      item = maker.make(epoch, row_at(taken++));
    } else {
      std::unique_lock lock(mutex);
      ready.wait(lock, [&] { return done.contains(taken); });
      item = std::move(done.extract(taken++).mapped());
      work.notify_one();
    }
    wait_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return item;
  }

  void check_bad_limit() const {
    const double limit = options.max_bad_fraction * static_cast<double>(rows.size());
    if (static_cast<double>(bad.size()) <= limit) return;
    std::string reasons;
    for (std::size_t i = 0; i < std::min(bad.size(), kReasonsShown); ++i) {
      reasons += "\n  " + bad[i].reason;
    }
    if (bad.size() > kReasonsShown) reasons += "\n  ...";
    fail(ExitCode::kBadData, "loader: ", bad.size(), " of ", rows.size(),
         " tracks cannot be used, more than the allowed ", 100 * options.max_bad_fraction,
         " %:", reasons);
  }

  void note_bad(std::vector<BadTrack>&& met) {
    for (BadTrack& track : met) {
      if (bad_rows.insert(track.row).second) bad.push_back(std::move(track));
    }
    check_bad_limit();
  }

  void assemble(std::vector<LoaderItem>& items, AudioBatch& batch) const {
    std::size_t longest = 0;
    for (const LoaderItem& item : items) longest = std::max(longest, item.wave.size());
    const auto count = std::ssize(items);
    batch.wave = Tensor::zeros({count, static_cast<std::int64_t>(longest)});
    batch.target = Tensor::empty({count, 1});
    batch.rows.clear();
    batch.ids.clear();
    for (std::int64_t i = 0; i < count; ++i) {
      const LoaderItem& item = items[static_cast<std::size_t>(i)];
      std::copy(item.wave.begin(), item.wave.end(),
                batch.wave.data<float>() + i * static_cast<std::int64_t>(longest));
      batch.target.data<float>()[i] = item.target;
      batch.rows.push_back(item.row);
      batch.ids.push_back(static_cast<std::uint64_t>(item.row));
    }
    batch.next_cursor = taken;
  }
};

AudioLoader::AudioLoader(const DataSet& data, std::vector<std::int64_t> rows,
                         LoaderOptions options) {
  check_options(data, rows, options);
  state_ = std::make_unique<State>(data, std::move(rows), std::move(options));
  State* state = state_.get();
  for (int i = 0; i < state->options.workers; ++i) {
    state->threads.emplace_back([state] { state->run_worker(); });
  }
}

AudioLoader::~AudioLoader() = default;

void AudioLoader::start_epoch(std::uint64_t epoch, std::int64_t cursor) {
  State& s = *state_;
  const std::int64_t n = std::ssize(s.rows);
  ONPA_CHECK(cursor >= 0 && cursor <= n, "loader: cursor ", cursor, " in an epoch of ", n,
             " tracks");
  std::vector<std::int64_t> order = epoch_order(n, s.options.seed, epoch, s.options.shuffle);
  {
    const std::lock_guard lock(s.mutex);
    ++s.generation;
    s.epoch = epoch;
    s.order = std::move(order);
    s.issued = s.taken = cursor;
    s.done.clear();
  }
  s.started = true;
  s.work.notify_all();
}

bool AudioLoader::next(AudioBatch& batch) {
  State& s = *state_;
  ONPA_CHECK(s.started, "loader: next before start_epoch");
  s.check_bad_limit();
  std::vector<LoaderItem> items;
  // `taken` and `order` change in this thread only, so they may be read without the lock.
  while (std::ssize(items) < s.options.batch_size && s.taken < std::ssize(s.order)) {
    LoaderItem item = s.take();
    s.note_bad(std::move(item.bad));
    if (item.error) std::rethrow_exception(item.error);
    if (item.good) items.push_back(std::move(item));
  }
  if (items.empty() || (s.options.drop_last && std::ssize(items) < s.options.batch_size)) {
    return false;
  }
  s.assemble(items, batch);
  return true;
}

std::int64_t AudioLoader::batches_per_epoch() const {
  const std::int64_t n = std::ssize(state_->rows), size = state_->options.batch_size;
  return state_->options.drop_last ? n / size : (n + size - 1) / size;
}

std::vector<BadTrack> AudioLoader::bad_tracks() const {
  return state_->bad;
}

std::string AudioLoader::cache_problem() const {
  return state_->maker.cache_problem();
}

double AudioLoader::wait_seconds() const {
  return state_->wait_seconds;
}

}  // namespace onpa::data
