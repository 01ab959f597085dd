// Batches of decoded audio in an order that depends on (seed, epoch) alone, prepared by worker
// threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "audio/decode.h"
#include "data/dataset.h"
#include "data/decoder_pool.h"
#include "data/shard.h"
#include "tensor/tensor.h"

namespace onpa::data {

/// The order of [0, n) in an epoch of audio: a permutation from (seed, epoch), or the identity.
std::vector<std::int64_t> epoch_order(std::int64_t n, std::uint64_t seed, std::uint64_t epoch,
                                      bool shuffle);

/// A cache of decoded PCM on disk: 16-bit mono at the model's rate, one file a track, each with an
/// xxh3 checksum; the oldest files go when `max_bytes` is exceeded. An entry that is damaged, or
/// older than its source, is decoded again. Several threads and processes may share a folder. A
/// full disk costs only speed; the cache leaves room on it for others (a twentieth, at most 1 GiB).
class PcmCache {
 public:
  /// Throws Error (kCannotCreate), but not for a full disk.
  PcmCache(std::filesystem::path folder, std::uint64_t max_bytes);
  /// Samples of `path` from the cache, or from `decode` (which may throw), then cached. They are
  /// rounded to 16 bits either way, so that a cold cache gives what a warm one does. Thread-safe.
  std::vector<float> get(const std::filesystem::path& path,
                         const std::function<audio::Clip()>& decode);
  struct Stats {
    std::uint64_t hits = 0, misses = 0, bytes = 0, evicted = 0, damaged = 0;
    std::uint64_t failed_writes = 0;  // those not tried for want of room too
  };
  Stats stats() const;
  /// Why the first entry that could not be written was not; empty if all were.
  std::string problem() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// One item of an epoch: a track, or the mixture of two.
struct EpochItem {
  std::int64_t row = 0;
  std::uint64_t sample = 0;   // number of its random streams, < 2^32; a track's own is its row
  std::int64_t partner = -1;  // row of what is mixed into it; -1: none
};
/// Each of `rows` once.
std::vector<EpochItem> items_of(const std::vector<std::int64_t>& rows);

struct LoaderOptions {
  std::int64_t batch_size = 8;
  double seconds = 0;  // clip length given to the model; 0: whole, padded to the batch's longest
  bool shuffle = true;
  bool train = true;  // random crop, gain, roll, wave mixup; else from the start
  bool drop_last = false;
  std::uint64_t seed = 0;
  int workers = 2;           // 0: decode in the calling thread
  int prefetch_batches = 4;  // >= 1; decoded ahead of the consumer
  int gain_low_db = 0, gain_high_db = 0;
  std::int64_t roll_samples = 0;
  float wave_mixup_probability = 0;
  double max_bad_fraction = 0.01;      // of the epoch's tracks; above it: Error (kBadData)
  std::filesystem::path cache_folder;  // empty: no PCM cache
  std::uint64_t cache_bytes = std::uint64_t{20} << 30;
  DecoderOptions decoder;
  /// What an epoch is made of, before it is shuffled: rows and partners among those that the loader
  /// is for, samples each once, as many items in every epoch. The same on all ranks; empty: each
  /// row once. An item with a partner is mixed with it, whatever wave_mixup_probability says; if
  /// the partner is bad it stays unmixed.
  std::function<std::vector<EpochItem>(std::uint64_t epoch)> items;
  /// For batches that several ranks share, unused by one rank alone: the place in the batch of each
  /// clip's partner, for batch number `draw` with `total` clips. A rank then loads the partners of
  /// its clips too. The same on all ranks; empty: none.
  std::function<std::vector<std::int32_t>(std::int64_t total, std::uint64_t draw)> partners;
};

/// What a rank has of a batch: N clips, and with LoaderOptions::partners their partners after them,
/// clip N + i that of clip i.
struct AudioBatch {
  Tensor wave;                     // (clips, S) f32, S alike on all ranks
  Tensor target;                   // (clips, 1) f32, mixed where the waveform was
  std::vector<std::int64_t> rows;  // index into DataSet::tracks
  std::vector<std::uint64_t> ids;  // EpochItem::sample
  std::int64_t samples = 0;        // N; may be 0 where ranks share the batch
  std::int64_t total = 0;          // clips of the whole batch, over all ranks
  std::int64_t first = 0;          // place of clip 0 in the whole batch
  std::uint64_t draw = 0;          // the batch's number
  std::int64_t next_cursor = 0;    // start_epoch(epoch, next_cursor) continues after this batch
};

/// A track that could not be used.
struct BadTrack {
  std::int64_t row = 0;
  std::string path, reason;
};

/// A track and how long its file took to decode, by the clock.
struct DecodeTime {
  std::int64_t row = 0;
  double seconds = 0;
};

/// Iterates one epoch at a time. A bad file is skipped, counted and listed; the batch it belonged
/// to is filled up from the next tracks, so batches stay full. Batches are the same for any
/// `workers`: an item depends on (seed, epoch, EpochItem) and the files alone.
///
/// A cursor is a position in epoch_order(); skipping bad files makes it run ahead of batch number x
/// batch size, so a run that is to be resumed saves AudioBatch::next_cursor of its last batch.
///
/// Where several ranks share the batches, all of them make a loader of the same rows and options
/// (but for workers, prefetch and cache) and call start_epoch() and next() alike. Each gets
/// Shard::part() of a batch; put together, in the order of the ranks, they are the batch of one
/// rank, bit for bit. A track is bad for all ranks if it is for one.
class AudioLoader {
 public:
  /// `data` outlives the loader. Throws Error: kConfig for an option out of range, kCannotCreate
  /// for the cache folder.
  AudioLoader(const DataSet& data, std::vector<std::int64_t> rows, LoaderOptions options,
              Shard shard = {});
  ~AudioLoader();
  AudioLoader(const AudioLoader&) = delete;

  /// Starts epoch `epoch` at `cursor`: 0, or the next_cursor of the batch after which to resume.
  /// The next batch gets the number `draw`, those after it the numbers that follow. May be called
  /// in the middle of an epoch.
  void start_epoch(std::uint64_t epoch, std::int64_t cursor = 0, std::uint64_t draw = 0);
  /// The next batch, or false at the epoch's end. Throws Error (kBadData) with the counts and the
  /// first reasons when more than max_bad_fraction of the rows are bad; rethrows a worker's error,
  /// and on the other ranks throws Error (kStopped) naming the rank that met one.
  bool next(AudioBatch& batch);
  /// Upper bound: bad files can make an epoch shorter.
  std::int64_t batches_per_epoch() const;
  std::int64_t items_per_epoch() const;
  /// Bad tracks met so far (mixup partners too), by any of the ranks that share the batches, each
  /// once, in the order of the epochs. Counting starts anew with each loader: a resumed run does
  /// not know of earlier ones.
  std::vector<BadTrack> bad_tracks() const;
  /// The ten tracks that this rank decoded slowest so far, each once, the slowest first; tracks out
  /// of the cache are not among them.
  std::vector<DecodeTime> slowest() const;
  /// Why a track could not be kept in the PCM cache, the first time; empty if all were.
  std::string cache_problem() const;
  /// Why files were decoded in this process although they should not have been, the first time.
  std::string decoder_problem() const;
  /// Seconds that next() spent waiting for items, those of other ranks too; without workers, making
  /// them.
  double wait_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace onpa::data
