// From rows of text to tracks, each once.
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/study/prepare_parts.h"
#include "data/file.h"
#include "data/id_index.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

constexpr std::uint32_t kNoArtist = ~std::uint32_t{0};

// Adds the genres of `from` that `into` does not have.
void join_genres(data::Track& into, const data::Track& from) {
  std::vector<std::string> have = into.genres();
  for (const std::string& genre : from.genres()) {
    if (std::find(have.begin(), have.end(), genre) != have.end()) continue;
    into.genre += (into.genre.empty() ? "" : ";") + genre;
    have.push_back(genre);
  }
}

// A cell that is a list in brackets as parts joined by ';', any other as it is.
std::string genre_text(std::string_view cell) {
  if (!cell.starts_with('[')) return std::string(cell);
  std::string text;
  for (const std::string& part : list_parts(cell)) text += (text.empty() ? "" : ";") + part;
  return text;
}

}  // namespace

std::int64_t Counts::distinct() const {
  const auto dropped =
      std::accumulate(dropped_rows.begin(), dropped_rows.end(), std::int64_t{0},
                      [](std::int64_t sum, const auto& reason) { return sum + reason.second; });
  return rows_read - dropped - joined_rows;
}

std::uint32_t ArtistGroups::add(const std::vector<std::string>& artists, bool first_only) {
  std::uint32_t first = kNoArtist;
  for (const std::string& artist : artists) {
    const auto [at, added] = numbers_.emplace(artist, static_cast<std::uint32_t>(parents_.size()));
    if (added) {
      parents_.push_back(at->second);
      names_.push_back(&at->first);
    }
    if (first == kNoArtist) {
      first = at->second;
    } else {
      join(first, at->second);
    }
    if (first_only) break;
  }
  return first;
}

void ArtistGroups::join(std::uint32_t a, std::uint32_t b) {
  a = root(a);
  b = root(b);
  if (a == b) return;
  if (*names_[b] < *names_[a]) std::swap(a, b);
  parents_[b] = a;
}

const std::string& ArtistGroups::name(std::uint32_t artist) {
  return *names_[root(artist)];
}

std::uint32_t ArtistGroups::root(std::uint32_t artist) {
  while (parents_[artist] != artist) {
    parents_[artist] = parents_[parents_[artist]];
    artist = parents_[artist];
  }
  return artist;
}

RowReader::RowReader(data::CsvReader& table, const Roles& roles,
                     const std::vector<std::string>& features, const SplitRule& split,
                     Counts& counts)
    : table_(table), roles_(roles), feature_names_(features), split_(split), counts_(counts) {}

std::vector<data::Track> RowReader::read_all() {
  std::vector<data::Track> tracks;
  data::IdIndex ids([&](std::size_t i) -> std::string_view { return tracks[i].id; });
  while (table_.next()) {
    ++counts_.rows_read;
    data::Track track;
    if (!read(track)) {
      ++counts_.dropped_rows[reason_];
      continue;
    }
    const std::size_t first = ids.find_or_add(track.id, tracks.size());
    const bool added = first == ids.kNone;
    if (!added && split_.kind != SplitKind::kRows) {
      join(tracks[first], track);
      note_artists(first, false);
      continue;
    }
    if (!added) {
      ++counts_.repeated_rows;
      repeats_.emplace_back(tracks.size(), first);
    }
    tracks.push_back(std::move(track));
    note_artists(tracks.size() - 1, true);
  }
  // Ids must differ; these were kept apart from the index until all rows were there.
  for (const auto& [repeat, first] : repeats_) {
    tracks[repeat].id += "#" + std::to_string(repeat + 1);
  }
  for (std::size_t i = 0; i < artist_.size(); ++i) {
    if (artist_[i] != kNoArtist) tracks[i].group = groups_.name(artist_[i]);
  }
  return tracks;
}

// False, and the reason in reason_, if the row must be dropped.
bool RowReader::read(data::Track& track) {
  if (!read_numbers(track)) return false;
  track.target = data::TargetMap{}.target(track.popularity);
  track.id = roles_.id >= 0 ? std::string(table_.cell(roles_.id)) : made_up_id(track);
  if (track.id.empty()) {
    reason_ = "id missing";
    return false;
  }
  if (roles_.genre >= 0) track.genre = genre_text(table_.cell(roles_.genre));
  return roles_.split < 0 || read_split(track);
}

bool RowReader::read_numbers(data::Track& track) {
  if (!number("popularity", roles_.popularity, track.popularity)) return false;
  const std::string* outside = nullptr;
  static const std::string kPopularity = "popularity";
  if (!in_range(kPopularity, track.popularity)) outside = &kPopularity;
  if (outside != nullptr) ++counts_.out_of_range[kPopularity];
  track.features.reserve(feature_names_.size());
  for (std::size_t i = 0; i < feature_names_.size(); ++i) {
    const std::string& name = feature_names_[i];
    double value = 0;
    if (!number(name, roles_.features[i], value)) return false;
    track.features.push_back(static_cast<float>(value));
    if (!std::isfinite(track.features.back())) {
      reason_ = name + " not finite";
      return false;
    }
    if (in_range(name, value)) continue;
    ++counts_.out_of_range[name];
    if (outside == nullptr) outside = &name;
  }
  if (outside != nullptr) reason_ = *outside + " out of range";
  return outside == nullptr;
}

bool RowReader::number(const std::string& name, int column, double& value) {
  switch (parse_feature(name, table_.cell(column), value)) {
    case CellProblem::kNone:
      return true;
    case CellProblem::kMissing:
      reason_ = name + " missing";
      return false;
    case CellProblem::kNotFinite:
      reason_ = name + " not finite";
      return false;
    case CellProblem::kNotANumber:
      reason_ = name + " not a number";
      return false;
  }
  return false;
}

bool RowReader::read_split(data::Track& track) {
  const std::string text = plain_header(table_.cell(roles_.split));
  if (text.empty() || text == "na" || text == "nan") {
    reason_ = "split missing";
    return false;
  }
  const bool train = text == "train" || text == "training";
  if (!train && text != "test" && text != "testing") {
    fail(ExitCode::kBadData, table_.name(), ":", table_.line(), ": column ",
         table_.columns()[static_cast<std::size_t>(roles_.split)], ": got \"",
         table_.cell(roles_.split), "\", want train (or training) or test (or testing)");
  }
  track.split = train ? data::Split::kTrain : data::Split::kTest;
  return true;
}

// Rows that agree in name and features are one track.
std::string RowReader::made_up_id(const data::Track& track) const {
  std::string key = roles_.name >= 0 ? std::string(table_.cell(roles_.name)) : "";
  for (const float value : track.features) key += "\n" + std::to_string(value);
  return "row-" + data::hash_hex(XXH3_64bits(key.data(), key.size()));
}

void RowReader::join(data::Track& first, const data::Track& further) {
  ++counts_.joined_rows;
  if (first.features != further.features || first.popularity != further.popularity) {
    ++counts_.conflicting_rows;
  }
  if (first.split != further.split) ++counts_.in_both_splits;
  join_genres(first, further);
}

void RowReader::note_artists(std::size_t track, bool added) {
  if (roles_.artists < 0) return;
  const bool first_only = split_.kind == SplitKind::kFirstArtist;
  const std::vector<std::string> artists = list_parts(table_.cell(roles_.artists));
  if (added) artist_.push_back(kNoArtist);
  if (artists.empty() || (!added && first_only && artist_[track] != kNoArtist)) return;
  const std::uint32_t artist = groups_.add(artists, first_only);
  if (artist_[track] == kNoArtist) {
    artist_[track] = artist;
  } else {
    groups_.join(artist_[track], artist);
  }
}

}  // namespace onpa::apps
