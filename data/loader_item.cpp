#include "data/loader_item.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <new>

#include "audio/augment.h"
#include "kernels/error.h"
#include "kernels/philox.h"
#include "tensor/io/fault.h"

namespace onpa::data {
namespace {

// How often a mixup partner is drawn again because it is bad before the item stays unmixed.
constexpr int kPartnerDraws = 8;

std::string path_of(const DataSet& data, std::int64_t row) {
  return (data.audio_root / data.tracks[static_cast<std::size_t>(row)].audio).string();
}

// Faults of one file, as opposed to those of the machine or of this program.
bool is_bad_file(ExitCode code) {
  return code == ExitCode::kBadData || code == ExitCode::kInputMissing || code == ExitCode::kIo;
}

std::exception_ptr with_path(const std::string& path, const char* what, ExitCode code) {
  return std::make_exception_ptr(Error(path + ": " + what, code));
}

}  // namespace

ItemMaker::ItemMaker(const DataSet& data, const std::vector<std::int64_t>& rows,
                     const LoaderOptions& options)
    : data_(data), rows_(rows), options_(options), decoders_(options.decoder) {
  if (!options.cache_folder.empty()) {
    cache_ = std::make_unique<PcmCache>(options.cache_folder, options.cache_bytes);
  }
}

LoaderItem ItemMaker::make(std::uint64_t epoch, const EpochItem& what) {
  LoaderItem item;
  const std::int64_t row = item.row = what.row;
  item.sample = what.sample;
  try {
    io::fault_site(io::FaultSite::kLoader);
    auto samples = load(row, item.bad);
    if (!samples) return item;
    item.wave = augmented(std::move(*samples), epoch, item.sample);
    item.target = data_.tracks[static_cast<std::size_t>(row)].target;
    if (what.partner >= 0) {
      mix_with(item, epoch, what.partner);
    } else if (options_.train && options_.wave_mixup_probability > 0) {
      mix(item, epoch);
    }
    item.good = true;
  } catch (const Error& e) {
    item.error = with_path(path_of(data_, row), e.what(), e.code());
  } catch (const std::bad_alloc&) {
    item.error = with_path(path_of(data_, row), "out of memory", ExitCode::kOutOfMemory);
  } catch (const std::exception& e) {
    item.error = with_path(path_of(data_, row), e.what(), ExitCode::kInternal);
  }
  return item;
}

void ItemMaker::mark_bad(const BadTrack& track) {
  const std::lock_guard lock(mutex_);
  reasons_.emplace(track.row, track.reason);
}

std::optional<std::vector<float>> ItemMaker::load(std::int64_t row, std::vector<BadTrack>& bad) {
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = reasons_.find(row); known != reasons_.end()) reason = known->second;
  }
  if (reason.empty()) {
    try {
      return decode(row);
    } catch (const Error& e) {
      if (!is_bad_file(e.code())) throw;
      reason = e.what();
    }
    const std::lock_guard lock(mutex_);
    reasons_.emplace(row, reason);
  }
  bad.push_back({row, path_of(data_, row), reason});
  return std::nullopt;
}

std::vector<float> ItemMaker::decode(std::int64_t row) {
  const Track& track = data_.tracks[static_cast<std::size_t>(row)];
  if (track.audio.empty()) fail(ExitCode::kBadData, "track \"", track.id, "\" has no audio file");
  const std::filesystem::path path = data_.audio_root / track.audio;
  const auto decode_checked = [&] {
    const auto begin = std::chrono::steady_clock::now();
    audio::Clip clip = decoders_.decode(path);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    note_time({row, took.count()});
    if (!std::all_of(clip.samples.begin(), clip.samples.end(),
                     [](float x) { return std::isfinite(x); })) {
      fail(ExitCode::kBadData, path.string(), ": decodes to samples that are not finite");
    }
    return clip;
  };
  return cache_ ? cache_->get(path, decode_checked) : decode_checked().samples;
}

void ItemMaker::note_time(const DecodeTime& time) {
  constexpr std::size_t kListed = 10;
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find(slowest_, time.row, &DecodeTime::row);
  if (known == slowest_.end()) {
    slowest_.push_back(time);
  } else {
    known->seconds = std::max(known->seconds, time.seconds);
  }
  std::ranges::stable_sort(slowest_, std::greater(), &DecodeTime::seconds);
  if (slowest_.size() > kListed) slowest_.pop_back();
}

std::vector<DecodeTime> ItemMaker::slowest() {
  const std::lock_guard lock(mutex_);
  return slowest_;
}

// Gain, cut, roll: the order of the public PaSST recipe.
std::vector<float> ItemMaker::augmented(std::vector<float> samples, std::uint64_t epoch,
                                        std::uint64_t sample) {
  const auto key = [&](RngStream stream) { return RngKey{options_.seed, stream, epoch, sample}; };
  if (options_.train && (options_.gain_low_db != 0 || options_.gain_high_db != 0)) {
    audio::random_gain(samples, options_.gain_low_db, options_.gain_high_db, key(kStreamGain));
  }
  if (options_.seconds > 0) {
    const auto length =
        static_cast<std::int64_t>(std::llround(options_.seconds * audio::kModelRateHz));
    samples = audio::fit_length(samples, length, options_.train, key(kStreamCrop));
  }
  if (options_.train && options_.roll_samples > 0) {
    audio::random_roll(samples, options_.roll_samples, key(kStreamRoll));
  }
  return samples;
}

void ItemMaker::mix(LoaderItem& item, std::uint64_t epoch) {
  Philox rng({options_.seed, kStreamMixupPartner, epoch, item.sample});
  if (rng.uniform() >= options_.wave_mixup_probability) return;
  for (int draw = 0; draw < kPartnerDraws; ++draw) {
    if (mix_with(item, epoch, rows_[rng.below(static_cast<std::uint32_t>(rows_.size()))])) return;
  }
}

// The partner is heard as it is in its own place of this epoch. False if it is bad.
bool ItemMaker::mix_with(LoaderItem& item, std::uint64_t epoch, std::int64_t partner) {
  auto samples = load(partner, item.bad);
  if (!samples) return false;
  const std::vector<float> other = audio::fit_length(
      augmented(std::move(*samples), epoch, static_cast<std::uint64_t>(partner)),
      std::ssize(item.wave), false, {options_.seed, kStreamCrop, epoch, item.sample});
  const float weight =
      audio::mixup_wave(item.wave, other, {options_.seed, kStreamMixupWave, epoch, item.sample});
  const float target = data_.tracks[static_cast<std::size_t>(partner)].target;
  item.target = weight * item.target + (1 - weight) * target;
  return true;
}

}  // namespace onpa::data
