// A corpus with known answers: clips rendered from sampled track features and one hidden timbre,
// encoded as mp3, with a feature table in a public layout.
//
// The target is y = g(features) + tau * hidden + sigma * noise, clipped to [-0.5, 0.5], and the
// popularity column is round(100 * (y + 0.5)). The hidden value steers the roll-off of the
// harmonics and is in no column of the table. So the lowest possible RMSE is known:
//   from the features alone   sqrt(tau^2 + sigma^2) = 0.100
//   from the audio            sigma                 = 0.080
// up to clipping and rounding, which cost under 0.0005.
//
// How the audio shows what g depends on: loudness is the gain, energy the level of a noise band
// from 9 kHz, valence the register of a triad, danceability the decay of the clicks, acousticness
// how fast the triad dies away after each hit. Tempo (click rate) and mode (major or minor third)
// are audible too, but g does not use them; the other features only fill their columns.
//
// The planted genre (kPlantedGenre) turns the order of the two models round, by construction: its
// hidden value is always 0, so the table misses nothing, and its clips lie under loud surface
// noise, so that the audio shows loudness, energy and the rest only dimly. Its share is small, and
// the hidden value of the other genres is scaled so that its variance over the corpus is 1.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "audio/clip.h"
#include "data/dataset.h"

namespace onpa::apps {

constexpr double kTau = 0.06;
constexpr double kSigma = 0.08;
constexpr const char* kPlantedGenre = "honky-tonk";

struct CorpusOptions {
  std::int64_t tracks = 2500;
  double seconds = 1.0;
  std::uint64_t seed = 1;
  int bitrate_kbps = 128;
};

/// The numeric columns that carry meaning, in Spotify's units.
struct SongFeatures {
  double danceability = 0, energy = 0, instrumentalness = 0, liveness = 0;  // [0, 1]
  double loudness = 0;                                                      // dB, [-30, 0]
  int mode = 0;                                                             // 1 major, 0 minor
  double tempo = 0;                                                         // beats a minute
  double valence = 0, acousticness = 0, speechiness = 0;                    // [0, 1]
};

struct CorpusTrack {
  std::int64_t index = 0;
  std::string id;  // 22 characters of [0-9A-Za-z]
  std::string genre;
  std::string second_genre;  // "" for most; a second row of the table otherwise
  SongFeatures features;     // as the table spells them
  double hidden = 0;
  int popularity = 0;              // 0..100
  double mean_given_features = 0;  // g, the best prediction from the table
  double mean_given_audio = 0;     // g + tau * hidden, the best prediction from the clip
};

/// g: the part of the target that the features explain.
double explained_target(const SongFeatures& features);

/// All tracks of a corpus; track i depends on (seed, i) alone. Throws Error (kConfig) for options
/// out of range.
std::vector<CorpusTrack> draw_corpus(const CorpusOptions& options);

/// The clip of a track, 32 kHz, peak below 1; depends on (options.seed, track) alone.
audio::Clip render_clip(const CorpusTrack& track, const CorpusOptions& options);

/// Writes FOLDER/audio/<id>.mp3, tracks.csv (the layout of the 114,000-track public set, one row a
/// track and genre), truth.csv (hidden value and the two conditional means), floors.json, and last
/// corpus.json (the options). Files that are there already are kept, so an interrupted call goes
/// on where it was; a finished corpus with the same options is left alone. `progress(done, total)`
/// is called now and then, from one thread at a time.
/// Returns false if there was nothing to do. Throws Error: kCannotCreate if the folder holds a
/// corpus with other options, kIo.
bool make_corpus(const std::filesystem::path& folder, const CorpusOptions& options,
                 const std::function<void(std::int64_t, std::int64_t)>& progress = {});

/// Errors of the true conditional means.
struct Floors {
  std::int64_t n = 0;
  double dense_rmse = 0, passt_rmse = 0, dense_mae = 0, passt_mae = 0;
};

/// Floors in the limit of many tracks, without clipping and rounding.
Floors analytic_floors();
/// Floors on the test split of a data set that was prepared from the corpus in `folder`.
/// Throws Error (kInputMissing, kBadData).
Floors test_floors(const std::filesystem::path& folder, const data::DataSet& data);

}  // namespace onpa::apps
