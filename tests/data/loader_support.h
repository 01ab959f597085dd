// What the tests of the audio loader share: a small corpus of mp3 files, some of them bad, and
// batches that can be compared.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "audio/encode.h"
#include "data/loader.h"
#include "tests/data/support.h"

namespace onpa::data {
constexpr int kTracks = 17;
inline const std::set<std::int64_t> kBadRows = {4, 9, 10};

// Mp3 files of 0.15 to 0.39 s, of which kBadRows are missing, text and zeros.
class AudioLoaderTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<testing::TempFolder>();
    for (int i = 0; i < kTracks; ++i) {
      audio::Clip clip;
      clip.samples.resize(static_cast<std::size_t>(4800 + 480 * i));
      for (std::size_t t = 0; t < clip.samples.size(); ++t) {
        clip.samples[t] =
            0.5f * std::sin(0.01f * static_cast<float>(i + 3) * static_cast<float>(t));
      }
      testing::write_bytes(*folder_ / (std::to_string(i) + ".mp3"), audio::encode_mp3(clip));
    }
    testing::write_bytes(*folder_ / "text.mp3", "not audio at all");
    testing::write_bytes(*folder_ / "zeros.mp3", std::string(5000, '\0'));
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static DataSet good_set() {
    DataSet data;
    data.audio_root = folder_->path();
    for (int i = 0; i < kTracks; ++i) {
      Track track{.id = std::to_string(i), .audio = std::to_string(i) + ".mp3"};
      track.target = static_cast<float>(i) / kTracks - 0.5f;
      data.tracks.push_back(track);
    }
    return data;
  }
  static DataSet spoilt_set() {
    DataSet data = good_set();
    data.tracks[4].audio = "missing.mp3";
    data.tracks[9].audio = "text.mp3";
    data.tracks[10].audio = "zeros.mp3";
    return data;
  }

  static inline std::unique_ptr<testing::TempFolder> folder_;
};

inline std::vector<std::int64_t> all_rows() {
  std::vector<std::int64_t> rows(kTracks);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

inline LoaderOptions training_options(int workers) {
  LoaderOptions options;
  options.batch_size = 4;
  options.seconds = 0.2;
  options.seed = 5;
  options.workers = workers;
  options.prefetch_batches = 2;
  options.gain_low_db = -7;
  options.gain_high_db = 6;
  options.roll_samples = 50;
  options.wave_mixup_probability = 0.5f;
  options.max_bad_fraction = 0.5;
  return options;
}

inline LoaderOptions plain_options(int workers) {
  LoaderOptions options;
  options.batch_size = 4;
  options.shuffle = options.train = false;
  options.workers = workers;
  options.max_bad_fraction = 0.5;
  return options;
}

struct Copied {
  std::vector<float> wave, target;
  std::vector<std::int64_t> rows;
  std::vector<std::uint64_t> ids;
  std::int64_t next_cursor, samples;
  bool operator==(const Copied&) const = default;
};

inline Copied copy_of(const AudioBatch& b) {
  return {b.wave.to_vector<float>(),
          b.target.to_vector<float>(),
          b.rows,
          b.ids,
          b.next_cursor,
          b.wave.size(1)};
}

inline std::vector<Copied> rest_of(AudioLoader& loader) {
  std::vector<Copied> batches;
  for (AudioBatch batch; loader.next(batch);) batches.push_back(copy_of(batch));
  return batches;
}

inline std::vector<Copied> epoch_of(AudioLoader& loader, std::uint64_t epoch,
                                    std::int64_t cursor = 0) {
  loader.start_epoch(epoch, cursor);
  return rest_of(loader);
}

inline std::vector<std::int64_t> rows_of(const std::vector<Copied>& batches) {
  std::vector<std::int64_t> rows;
  for (const Copied& batch : batches) rows.insert(rows.end(), batch.rows.begin(), batch.rows.end());
  return rows;
}

inline std::vector<std::int64_t> sorted(std::vector<std::int64_t> rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

inline std::vector<std::int64_t> good_rows() {
  std::vector<std::int64_t> rows = all_rows();
  std::erase_if(rows, [](std::int64_t row) { return kBadRows.contains(row); });
  return rows;
}

}  // namespace onpa::data
