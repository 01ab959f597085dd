// What the columns of public tables are called and what their cells mean.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/study/prepare.h"
#include "apps/study/prepare_parts.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

bool is_utf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

std::string lower(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) {
    text.remove_prefix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) {
    text.remove_suffix(1);
  }
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool note_number(const std::string& name, double& value) {
  if (name.empty() || name.size() > 2 || name[0] < 'a' || name[0] > 'g') return false;
  constexpr std::array<int, 7> kSemitones = {9, 11, 0, 2, 4, 5, 7};  // a to g
  int note = kSemitones[static_cast<std::size_t>(name[0] - 'a')];
  if (name.size() == 2) {
    if (name[1] != '#' && name[1] != 'b') return false;
    note += name[1] == '#' ? 1 : -1;
  }
  value = (note + 12) % 12;
  return true;
}

}  // namespace

std::vector<std::string> feature_names(const std::string& preset) {
  std::vector<std::string> printed = {"danceability", "energy",   "instrumentalness",
                                      "liveness",     "loudness", "mode",
                                      "tempo",        "valence"};
  if (preset == "printed8") return printed;
  if (preset == "paper10") {
    printed.insert(printed.end(), {"acousticness", "speechiness"});
    return printed;
  }
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (std::size_t begin = 0; begin <= preset.size();) {
    const std::size_t end = std::min(preset.find(',', begin), preset.size());
    names.push_back(preset.substr(begin, end - begin));
    if (names.back().empty() || !seen.insert(names.back()).second) {
      fail(ExitCode::kConfig, "features: got \"", preset,
           "\", want paper10, printed8 or column names, each once, separated by commas");
    }
    // The card is JSON, which could not name such a column.
    if (!is_utf8(names.back())) {
      fail(ExitCode::kConfig, "features: the column \"", names.back(),
           "\" is not UTF-8 text; rename it in the table");
    }
    begin = end + 1;
  }
  return names;
}

std::vector<std::string> column_aliases(const std::string& canonical) {
  static const std::map<std::string, std::vector<std::string>> kOther = {
      {"id", {"track_id", "song_id", "spotify_id"}},
      {"genre", {"track_genre", "playlist_genre", "genres"}},
      {"popularity", {"track_popularity", "song_popularity"}},
      {"name", {"track_name", "song_name"}},
      {"artists", {"artist_name", "track_artist", "artist", "song_artist"}},
  };
  std::vector<std::string> aliases = {canonical};
  if (const auto it = kOther.find(canonical); it != kOther.end()) {
    aliases.insert(aliases.end(), it->second.begin(), it->second.end());
  } else {
    for (const char* prefix : {"track_", "song_", "audio_"}) aliases.push_back(prefix + canonical);
  }
  return aliases;
}

std::string plain_header(std::string_view header) {
  std::string name = lower(header);
  for (char& c : name) {
    if (c == ' ' || c == '-') c = '_';
  }
  return name;
}

std::string layout_name(const std::vector<std::string>& columns) {
  struct Layout {
    const char* name;
    std::vector<const char*> has, has_not;
  };
  static const std::vector<Layout> kLayouts = {
      {"SpotifyFeatures (232,725-row table)",
       {"genre", "artist_name", "track_name", "track_id", "popularity"},
       {"year"}},
      {"dataset (114,000-row table)",
       {"track_id", "artists", "album_name", "popularity", "track_genre"},
       {}},
      {"spotify_data (1,159,764-row table)",
       {"artist_name", "track_id", "popularity", "year", "genre"},
       {}},
      {"tracks by release date, without genres",
       {"id", "name", "artists", "popularity", "release_date"},
       {}},
      {"song_data (prefixed names, without ids)",
       {"song_name", "song_popularity", "audio_mode", "audio_valence"},
       {}},
      {"spotify_songs (32,833-row table)",
       {"track_id", "track_artist", "track_popularity", "playlist_genre"},
       {}},
  };
  std::set<std::string> headers;
  for (const std::string& column : columns) headers.insert(plain_header(column));
  const auto there = [&](const char* name) { return headers.contains(name); };
  for (const Layout& layout : kLayouts) {
    if (std::all_of(layout.has.begin(), layout.has.end(), there) &&
        std::none_of(layout.has_not.begin(), layout.has_not.end(), there)) {
      return layout.name;
    }
  }
  return "unknown";
}

bool in_range(const std::string& canonical, double value) {
  struct Range {
    double low, high;
    bool whole;
  };
  constexpr double kDayMs = 86'400'000;
  // What the service can answer. Its loudness lies in [-60, 6] or so and its tempo in [0, 250]: a
  // little more is let through, other units are not.
  static const std::map<std::string, Range> kRanges = {
      {"popularity", {0, 100, false}},
      {"danceability", {0, 1, false}},
      {"energy", {0, 1, false}},
      {"speechiness", {0, 1, false}},
      {"acousticness", {0, 1, false}},
      {"instrumentalness", {0, 1, false}},
      {"liveness", {0, 1, false}},
      {"valence", {0, 1, false}},
      {"loudness", {-100, 20, false}},
      {"tempo", {0, 400, false}},
      {"key", {-1, 11, true}},
      {"mode", {0, 1, true}},
      {"time_signature", {0, 7, true}},
      {"explicit", {0, 1, true}},
      {"duration_ms", {1, kDayMs, false}},
  };
  const auto it = kRanges.find(canonical);
  if (it == kRanges.end()) return true;
  const Range& range = it->second;
  return value >= range.low && value <= range.high && (!range.whole || value == std::floor(value));
}

std::vector<std::string> list_parts(std::string_view cell) {
  std::vector<std::string> parts;
  const auto add = [&](std::string_view part) {
    const std::size_t first = part.find_first_not_of(" \t");
    if (first == std::string_view::npos) return;
    part = part.substr(first, part.find_last_not_of(" \t") - first + 1);
    if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.emplace_back(part);
  };
  const bool list = cell.size() >= 2 && cell.front() == '[' && cell.back() == ']';
  if (!list) {
    for (std::size_t begin = 0; begin <= cell.size();) {
      const std::size_t end = std::min(cell.find(';', begin), cell.size());
      add(cell.substr(begin, end - begin));
      begin = end + 1;
    }
    return parts;
  }
  for (std::size_t at = 1; at < cell.size();) {
    const char quote = cell[at++];
    if (quote != '\'' && quote != '"') continue;
    std::string part;
    for (; at < cell.size() && cell[at] != quote; ++at) {
      if (cell[at] == '\\' && at + 1 < cell.size()) ++at;
      part += cell[at];
    }
    ++at;
    add(part);
  }
  return parts;
}

CellProblem parse_feature(const std::string& canonical, std::string_view cell, double& value) {
  if (data::parse_number(cell, value)) return CellProblem::kNone;
  const std::string text = lower(cell);
  if (data::parse_number(text, value)) return CellProblem::kNone;
  for (const char* missing : {"", "na", "n/a", "nan", "-nan", "null", "none"}) {
    if (text == missing) return CellProblem::kMissing;
  }
  for (const char* infinite : {"inf", "-inf", "+inf", "infinity", "-infinity"}) {
    if (text == infinite) return CellProblem::kNotFinite;
  }
  if (text == "true" || text == "false") {
    value = text == "true" ? 1 : 0;
    return CellProblem::kNone;
  }
  if (canonical == "mode" && (text == "major" || text == "minor")) {
    value = text == "major" ? 1 : 0;
    return CellProblem::kNone;
  }
  if (canonical == "key" && note_number(text, value)) return CellProblem::kNone;
  if (canonical == "time_signature" && text.ends_with("/4") &&
      data::parse_number(std::string_view(text).substr(0, text.size() - 2), value)) {
    return CellProblem::kNone;
  }
  return CellProblem::kNotANumber;
}

}  // namespace onpa::apps
