#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <utility>

#include "data/loader_bad.h"
#include "data/loader_item.h"
#include "data/loader_queue.h"
#include "kernels/error.h"
#include "kernels/philox.h"
#include "tensor/op_scope.h"

namespace onpa::data {
namespace {

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
  check(o.decoder.seconds > 0, "decoder.seconds", o.decoder.seconds, "more than 0");
  for (const std::int64_t row : rows) {
    ONPA_CHECK(row >= 0 && row < std::ssize(data.tracks), "loader: row ", row, " of ",
               data.tracks.size(), " tracks");
  }
}

void check_shard(const Shard& shard) {
  ONPA_CHECK(shard.rank >= 0 && shard.rank < shard.size, "loader: rank ", shard.rank, " of ",
             shard.size);
  ONPA_CHECK(shard.size == 1 || (shard.all_max && shard.all_gather), "loader: ", shard.size,
             " ranks without a way to talk");
}

// Adds the time that it lives to `seconds`.
class Waiting {
 public:
  Waiting(const char* name, double& seconds)
      : scope_(name, ScopeKind::kWait),
        seconds_(seconds),
        start_(std::chrono::steady_clock::now()) {}
  ~Waiting() {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
    seconds_ += passed.count();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  const PhaseScope scope_;
  double& seconds_;
  const std::chrono::steady_clock::time_point start_;
};

}  // namespace

std::vector<std::int64_t> epoch_order(std::int64_t n, std::uint64_t seed, std::uint64_t epoch,
                                      bool shuffle) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  if (shuffle) Philox({seed, kStreamShuffle, epoch, 0}).shuffle(order);
  return order;
}

std::vector<EpochItem> items_of(const std::vector<std::int64_t>& rows) {
  std::vector<EpochItem> items;
  items.reserve(rows.size());
  for (const std::int64_t row : rows) items.push_back({row, static_cast<std::uint64_t>(row), -1});
  return items;
}

// The consumer takes the items of the epoch's order and fills batches with the good ones. What a
// batch holds so depends on no thread's speed.
//
// Ranks that share batches all know the same of them: the order, which tracks are bad, the draw
// number. So each can tell what part of a batch is its own, and what it will load if all goes well;
// once a batch they tell each other what went wrong.
struct AudioLoader::State {
  State(const DataSet& d, std::vector<std::int64_t> r, LoaderOptions o, Shard s)
      : data(d),
        rows(std::move(r)),
        options(std::move(o)),
        shard(std::move(s)),
        maker(data, rows, options),
        bad(std::ssize(rows), options.max_bad_fraction),
        per_epoch(std::ssize(items_in(0))),
        queue(maker, options.workers) {}

  std::vector<EpochItem> items_in(std::uint64_t epoch) const {
    return options.items ? options.items(epoch) : items_of(rows);
  }

  const DataSet& data;
  const std::vector<std::int64_t> rows;
  const LoaderOptions options;
  const Shard shard;
  ItemMaker maker;
  bool started = false;
  BadList bad;
  std::int64_t per_epoch;  // items
  std::int64_t taken = 0;  // next position of the epoch's order
  std::uint64_t draw = 0;  // number of the next batch
  double wait_seconds = 0;
  ItemQueue queue;

  using Places = std::vector<std::int64_t>;  // positions in the epoch's order
  using Items = std::map<std::int64_t, LoaderItem>;

  LoaderItem take(std::int64_t position) {
    const Waiting waiting("wait_for_data", wait_seconds);
    return queue.take(position);
  }

  // What `batch` gets of `clips`, padded to `longest` samples.
  void assemble(const std::vector<const LoaderItem*>& clips, std::size_t longest,
                AudioBatch& batch) {
    const auto count = std::ssize(clips);
    batch.wave = Tensor::zeros({count, static_cast<std::int64_t>(longest)});
    batch.target = Tensor::empty({count, 1});
    batch.rows.clear();
    batch.ids.clear();
    for (std::int64_t i = 0; i < count; ++i) {
      const LoaderItem& item = *clips[static_cast<std::size_t>(i)];
      std::copy(item.wave.begin(), item.wave.end(),
                batch.wave.data<float>() + i * static_cast<std::int64_t>(longest));
      batch.target.data<float>()[i] = item.target;
      batch.rows.push_back(item.row);
      batch.ids.push_back(item.sample);
    }
    batch.next_cursor = taken;
    batch.draw = draw++;
  }

  bool enough(std::int64_t total) const {
    return total > 0 && (!options.drop_last || total == options.batch_size);
  }

  // One rank.

  // Positions that may be worked on ahead of the consumer: bounds the memory in use.
  std::int64_t window() const {
    return std::max<std::int64_t>(options.prefetch_batches * options.batch_size, options.workers);
  }

  bool next_alone(AudioBatch& batch) {
    std::vector<LoaderItem> items;
    while (std::ssize(items) < options.batch_size && taken < queue.size()) {
      LoaderItem item = take(taken);
      if (taken + window() < queue.size()) queue.want_too(taken + window());
      ++taken;
      bad.note(std::move(item.bad));
      if (item.error) std::rethrow_exception(item.error);
      if (item.good) items.push_back(std::move(item));
    }
    if (!enough(std::ssize(items))) return false;
    std::size_t longest = 0;
    std::vector<const LoaderItem*> clips;
    for (const LoaderItem& item : items) {
      longest = std::max(longest, item.wave.size());
      clips.push_back(&item);
    }
    assemble(clips, longest, batch);
    batch.samples = batch.total = std::ssize(items);
    batch.first = 0;
    return true;
  }

  // Several ranks.

  // Fills a batch up with the next positions whose tracks are not known to be bad.
  void fill(Places& batch, std::int64_t& cursor) const {
    for (; std::ssize(batch) < options.batch_size && cursor < queue.size(); ++cursor) {
      if (!bad.contains(queue.item(cursor).row)) batch.push_back(cursor);
    }
  }

  // What this rank needs of a batch: its own part, then the partners of that.
  Places needs(const Places& batch, std::uint64_t batch_draw) const {
    const Range own = shard.part(std::ssize(batch));
    Places out(batch.begin() + own.begin, batch.begin() + own.end);
    if (!options.partners) return out;
    const std::vector<std::int32_t> partner = options.partners(std::ssize(batch), batch_draw);
    ONPA_CHECK(std::ssize(partner) == std::ssize(batch), "loader: ", partner.size(),
               " partners for ", batch.size(), " clips");
    for (std::int64_t i = own.begin; i < own.end; ++i) {
      out.push_back(batch.at(static_cast<std::size_t>(partner[static_cast<std::size_t>(i)])));
    }
    return out;
  }

  // What it will need of the batches from `cursor` on if no more tracks are bad: for as many
  // batches as are to be prefetched, or a few more if there is less than an item for each worker.
  Places foresee(std::int64_t cursor, std::uint64_t next_draw) const {
    Places out;
    if (options.workers == 0) return out;
    const int most = options.prefetch_batches + options.workers;
    for (int ahead = 0; ahead < most; ++ahead) {
      if (ahead >= options.prefetch_batches && std::ssize(out) >= options.workers) break;
      Places batch;
      fill(batch, cursor);
      if (batch.empty()) break;
      const Places needed = needs(batch, next_draw++);
      out.insert(out.end(), needed.begin(), needed.end());
    }
    return out;
  }

  // Loads what of `needed` is not in `items`; `foreseen` says that the workers know of it.
  void load(const Places& needed, bool foreseen, Items& items) {
    Places missing;
    for (const std::int64_t place : needed) {
      if (!items.contains(place)) missing.push_back(place);
    }
    if (!foreseen) {
      Places wanted = missing;
      const Places later = foresee(taken, draw + 1);
      wanted.insert(wanted.end(), later.begin(), later.end());
      queue.want(wanted);
    }
    for (const std::int64_t place : missing) {
      if (!items.contains(place)) items.emplace(place, take(place));
    }
  }

  // Notes what the ranks met that is bad, as one rank would have met it.
  void note_all(const std::vector<MetBad>& met) {
    const std::vector<MetBad> all = gather_bad(shard, met);
    for (const MetBad& one : all) maker.mark_bad(one.track);
    for (std::size_t i = 0; i < all.size();) {
      std::vector<BadTrack> of_item;
      const std::int64_t position = all[i].position;
      for (; i < all.size() && all[i].position == position; ++i) of_item.push_back(all[i].track);
      bad.note(std::move(of_item));
    }
  }

  // Tells the other ranks how the items of a batch are, and hears it from them. False if some are
  // bad: these are taken out of the batch then. `longest` becomes the longest clip's samples.
  bool settle(Places& batch, Items& items, std::size_t& longest) {
    enum : std::size_t { kFailed, kMet, kLongest, kFlags };
    std::vector<double> told(kFlags + batch.size());
    std::exception_ptr error;
    std::vector<MetBad> met;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto found = items.find(batch[i]);
      if (found == items.end()) continue;
      LoaderItem& item = found->second;
      if (item.error && !error) error = item.error;
      told[kFlags + i] = item.good ? 0 : 1;
      told[kLongest] = std::max(told[kLongest], static_cast<double>(item.wave.size()));
      for (BadTrack& track : std::exchange(item.bad, {})) {
        if (!bad.contains(track.row)) met.push_back({batch[i], std::move(track)});
      }
    }
    told[kFailed] = error ? shard.size - shard.rank : 0;
    told[kMet] = met.empty() ? 0 : 1;
    {
      const Waiting waiting("wait_for_ranks", wait_seconds);
      shard.all_max(told);
    }
    if (error) std::rethrow_exception(error);
    if (told[kFailed] > 0) {
      fail(ExitCode::kStopped, "loader: rank ", shard.size - static_cast<int>(told[kFailed]),
           " failed to load its part of a batch and says why");
    }
    if (told[kMet] > 0) note_all(met);
    longest = static_cast<std::size_t>(told[kLongest]);
    Places good;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (told[kFlags + i] == 0) good.push_back(batch[i]);
    }
    return good.size() == std::exchange(batch, good).size();
  }

  bool next_shared(AudioBatch& batch) {
    Places places, needed;
    Items items;
    std::size_t longest = 0;
    for (bool settled = false, foreseen = true; !settled; foreseen = false) {
      fill(places, taken);
      if (places.empty()) return false;
      needed = needs(places, draw);
      load(needed, foreseen, items);
      settled = settle(places, items, longest);
    }
    const std::int64_t total = std::ssize(places);
    if (!enough(total)) return false;
    queue.want(foresee(taken, draw + 1));
    std::vector<const LoaderItem*> clips;
    for (const std::int64_t place : needed) clips.push_back(&items.at(place));
    assemble(clips, longest, batch);
    const Range own = shard.part(total);
    batch.samples = own.size();
    batch.total = total;
    batch.first = own.begin;
    return true;
  }
};

AudioLoader::AudioLoader(const DataSet& data, std::vector<std::int64_t> rows, LoaderOptions options,
                         Shard shard) {
  check_options(data, rows, options);
  check_shard(shard);
  state_ = std::make_unique<State>(data, std::move(rows), std::move(options), std::move(shard));
}

AudioLoader::~AudioLoader() = default;

void AudioLoader::start_epoch(std::uint64_t epoch, std::int64_t cursor, std::uint64_t draw) {
  State& s = *state_;
  const std::int64_t n = s.per_epoch;
  ONPA_CHECK(cursor >= 0 && cursor <= n, "loader: cursor ", cursor, " in an epoch of ", n,
             " items");
  const std::vector<EpochItem> items = s.items_in(epoch);
  ONPA_CHECK(std::ssize(items) == n, "loader: ", items.size(), " items in epoch ", epoch, ", want ",
             n);
  std::vector<EpochItem> ordered;
  ordered.reserve(items.size());
  for (const std::int64_t place : epoch_order(n, s.options.seed, epoch, s.options.shuffle)) {
    ordered.push_back(items[static_cast<std::size_t>(place)]);
  }
  s.queue.start(epoch, std::move(ordered));
  s.taken = cursor;
  s.draw = draw;
  s.started = true;
  if (s.shard.size > 1) {
    s.queue.want(s.foresee(cursor, draw));
    return;
  }
  std::vector<std::int64_t> ahead(
      static_cast<std::size_t>(std::min(s.window(), s.queue.size() - cursor)));
  std::iota(ahead.begin(), ahead.end(), cursor);
  s.queue.want(ahead);
}

bool AudioLoader::next(AudioBatch& batch) {
  State& s = *state_;
  ONPA_CHECK(s.started, "loader: next before start_epoch");
  s.bad.check();
  return s.shard.size == 1 ? s.next_alone(batch) : s.next_shared(batch);
}

std::int64_t AudioLoader::batches_per_epoch() const {
  const std::int64_t n = state_->per_epoch, size = state_->options.batch_size;
  return state_->options.drop_last ? n / size : (n + size - 1) / size;
}

std::int64_t AudioLoader::items_per_epoch() const {
  return state_->per_epoch;
}

std::vector<BadTrack> AudioLoader::bad_tracks() const {
  return state_->bad.tracks();
}

std::vector<DecodeTime> AudioLoader::slowest() const {
  return state_->maker.slowest();
}

std::string AudioLoader::cache_problem() const {
  return state_->maker.cache_problem();
}

std::string AudioLoader::decoder_problem() const {
  return state_->maker.decoder_problem();
}

double AudioLoader::wait_seconds() const {
  return state_->wait_seconds;
}

}  // namespace onpa::data
