// One track of an epoch as the loader's workers prepare it: decoded, cut, augmented, mixed.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/decoder_pool.h"
#include "data/loader.h"

namespace onpa::data {

struct LoaderItem {
  std::int64_t row = 0;
  std::uint64_t sample = 0;
  bool good = false;
  std::vector<float> wave;
  float target = 0;
  std::vector<BadTrack> bad;  // tracks met on the way that cannot be used: this one, mixup partners
  std::exception_ptr error;   // anything else that went wrong
};

/// Makes items. Thread-safe; an item depends on (options.seed, epoch, `what`) and the files alone.
class ItemMaker {
 public:
  /// `data` and `rows` outlive this.
  ItemMaker(const DataSet& data, const std::vector<std::int64_t>& rows,
            const LoaderOptions& options);
  LoaderItem make(std::uint64_t epoch, const EpochItem& what);
  /// From now on this track is as one found bad here.
  void mark_bad(const BadTrack& track);
  /// Items that are being made fail soon.
  void cancel() { decoders_.cancel(); }
  /// As PcmCache::problem() and DecoderPool::problem().
  std::string cache_problem() const { return cache_ ? cache_->problem() : std::string(); }
  std::string decoder_problem() const { return decoders_.problem(); }
  /// As AudioLoader::slowest().
  std::vector<DecodeTime> slowest();

 private:
  std::optional<std::vector<float>> load(std::int64_t row, std::vector<BadTrack>& bad);
  std::vector<float> decode(std::int64_t row);
  void note_time(const DecodeTime& time);
  std::vector<float> augmented(std::vector<float> samples, std::uint64_t epoch,
                               std::uint64_t sample);
  void mix(LoaderItem& item, std::uint64_t epoch);
  bool mix_with(LoaderItem& item, std::uint64_t epoch, std::int64_t partner);

  const DataSet& data_;
  const std::vector<std::int64_t>& rows_;
  const LoaderOptions& options_;
  std::unique_ptr<PcmCache> cache_;
  DecoderPool decoders_;
  std::mutex mutex_;
  // A track found bad stays so for this loader, even if its file is repaired meanwhile: the batches
  // of an epoch must not depend on when a worker looked.
  std::unordered_map<std::int64_t, std::string> reasons_;
  std::vector<DecodeTime> slowest_;  // descending
};

}  // namespace onpa::data
