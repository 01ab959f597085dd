#include "apps/study/corpus.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

struct GenreShape {
  const char* name;
  double share;                                                  // of all tracks
  double energy, loudness, valence, danceability, acousticness;  // centres
};

constexpr std::array<GenreShape, 6> kGenres = {{
    {"ambient", 0.18, 0.35, -15, 0.45, 0.40, 0.65},
    {"club", 0.18, 0.60, -10, 0.55, 0.65, 0.35},
    {"edm", 0.18, 0.65, -9, 0.50, 0.60, 0.30},
    {"grindcore", 0.18, 0.70, -8, 0.40, 0.35, 0.30},
    {"hip-hop", 0.18, 0.55, -10, 0.55, 0.65, 0.40},
    {kPlantedGenre, 0.10, 0.50, -12, 0.60, 0.55, 0.60},
}};

// The features are spread alike in every genre, so that each genre has a spread of targets.
constexpr double kUnitSpread = 0.22;
constexpr double kLoudnessSpreadDb = 4;
constexpr double kSecondGenreShare = 0.05;
// More than this and the roll-off leaves the range in which it can be heard.
constexpr double kMaxHidden = 3.3;

double rounded(double value) {
  return std::round(value * 1000) / 1000;
}

// A normal draw folded back into [0, 1] at both ends: no mass piles up at 0 or 1.
double folded_normal(Philox& rng, double centre) {
  double x = std::abs(centre + kUnitSpread * rng.normal());
  if (x > 1) x = 2 - x;
  return rounded(std::clamp(x, 0.0, 1.0));
}

const GenreShape& draw_genre(Philox& rng) {
  double at = rng.uniform();
  for (const GenreShape& genre : kGenres) {
    if (at < genre.share) return genre;
    at -= genre.share;
  }
  return kGenres.front();
}

std::string draw_id(Philox& rng) {
  constexpr char kDigits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string id;
  for (int i = 0; i < 22; ++i) id += kDigits[rng.below(62)];
  return id;
}

SongFeatures draw_features(Philox& rng, const GenreShape& genre) {
  SongFeatures f;
  f.energy = folded_normal(rng, genre.energy);
  f.valence = folded_normal(rng, genre.valence);
  f.danceability = folded_normal(rng, genre.danceability);
  f.acousticness = folded_normal(rng, genre.acousticness);
  f.loudness = rounded(std::clamp(genre.loudness + kLoudnessSpreadDb * rng.normal(), -30.0, 0.0));
  f.tempo = rounded(std::clamp(120 + 25 * rng.normal(), 60.0, 200.0));
  f.mode = rng.uniform() < 0.6 ? 1 : 0;
  f.instrumentalness = rounded(rng.uniform());
  f.liveness = rounded(0.6 * rng.uniform());
  const double speech = rng.uniform();
  f.speechiness = rounded(0.6 * speech * speech);
  return f;
}

CorpusTrack draw_track(std::int64_t index, std::uint64_t seed) {
  Philox rng({.seed = seed,
              .stream = kStreamCorpus,
              .step = 0,
              .sample = static_cast<std::uint64_t>(index)});
  CorpusTrack track;
  track.index = index;
  track.id = draw_id(rng);
  const GenreShape& genre = draw_genre(rng);
  track.genre = genre.name;
  track.features = draw_features(rng, genre);
  const bool planted = track.genre == kPlantedGenre;
  const double unit = rng.normal() / std::sqrt(1 - kGenres.back().share);
  track.hidden = planted ? 0 : std::clamp(unit, -kMaxHidden, kMaxHidden);
  if (!planted && rng.uniform() < kSecondGenreShare) {
    // The planted genre is last: it stays free of tracks that have a hidden part.
    const std::string other = kGenres[rng.below(kGenres.size() - 1)].name;
    if (other != track.genre) track.second_genre = other;
  }
  track.mean_given_features = explained_target(track.features);
  track.mean_given_audio = track.mean_given_features + kTau * track.hidden;
  const double y = std::clamp(track.mean_given_audio + kSigma * rng.normal(), -0.5, 0.5);
  track.popularity = static_cast<int>(std::lround(100 * (y + 0.5)));
  return track;
}

}  // namespace

double explained_target(const SongFeatures& f) {
  const double energy = (f.energy - 0.5) / 0.25;
  const double loudness = (f.loudness + 12) / 5;
  const double valence = (f.valence - 0.5) / 0.25;
  const double danceability = (f.danceability - 0.5) / 0.25;
  const double acousticness = (f.acousticness - 0.5) / 0.25;
  // The square and the product are what a linear model misses.
  return -0.09 + 0.05 * loudness + 0.035 * energy + 0.015 * acousticness -
         0.035 * (valence * valence - 0.85) + 0.035 * danceability * energy;
}

std::vector<CorpusTrack> draw_corpus(const CorpusOptions& options) {
  if (options.tracks < 1 || options.tracks > 1000000) {
    fail(ExitCode::kConfig, "corpus: got ", options.tracks, " tracks, want 1 to 1000000");
  }
  if (!(options.seconds >= 0.25 && options.seconds <= 60)) {
    fail(ExitCode::kConfig, "corpus: got clips of ", options.seconds, " s, want 0.25 to 60");
  }
  std::vector<CorpusTrack> tracks;
  tracks.reserve(static_cast<std::size_t>(options.tracks));
  for (std::int64_t i = 0; i < options.tracks; ++i) tracks.push_back(draw_track(i, options.seed));
  return tracks;
}

}  // namespace onpa::apps
