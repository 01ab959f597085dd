// Which columns a table has, under which names, and what their cells mean.
#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>

#include "apps/study/prepare.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

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
    begin = end + 1;
  }
  return names;
}

std::vector<std::string> column_aliases(const std::string& canonical) {
  static const std::map<std::string, std::vector<std::string>> kOther = {
      {"id", {"track_id"}},
      {"genre", {"track_genre", "playlist_genre", "genres"}},
      {"popularity", {"track_popularity", "song_popularity"}},
      {"name", {"track_name", "song_name"}},
      {"duration_ms", {"song_duration_ms"}},
      {"mode", {"audio_mode"}},
      {"valence", {"audio_valence"}},
  };
  std::vector<std::string> aliases = {canonical};
  if (const auto it = kOther.find(canonical); it != kOther.end()) {
    aliases.insert(aliases.end(), it->second.begin(), it->second.end());
  }
  return aliases;
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
