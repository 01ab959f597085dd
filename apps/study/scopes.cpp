#include "apps/study/scopes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/support/suggest.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::ordered_json;
using Groups = std::map<std::string, std::vector<std::int64_t>>;

constexpr std::size_t kLongestSlug = 80;

bool usable(const data::Track& track, const ScopeOptions& options) {
  return !options.audio || !track.audio.empty();
}

Groups tracks_by_genre(const data::DataSet& data) {
  Groups groups;
  for (std::size_t i = 0; i < data.tracks.size(); ++i) {
    for (const std::string& genre : data.tracks[i].genres()) {
      groups[genre].push_back(static_cast<std::int64_t>(i));
    }
  }
  return groups;
}

// The genres that were asked for by name; all if empty.
std::set<std::string> chosen_genres(const std::string& text, const Groups& groups) {
  std::set<std::string> out;
  if (text == "all") return out;
  std::vector<std::string> names;
  for (const auto& [name, rows] : groups) names.push_back(name);
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    if (!groups.contains(name)) {
      fail(ExitCode::kConfig, "--genres: the data set has no genre '", name, "'",
           suggestion(name, names));
    }
    out.insert(name);
    begin = end + 1;
  }
  return out;
}

// Why a genre cannot be a scope; empty if it can.
std::string shortcoming(const data::DataSet& data, const std::vector<std::int64_t>& rows,
                        const ScopeOptions& options) {
  std::int64_t train = 0, test = 0;
  for (const std::int64_t row : rows) {
    const data::Track& track = data.tracks[static_cast<std::size_t>(row)];
    if (usable(track, options)) ++(track.split == data::Split::kTrain ? train : test);
  }
  if (train + test < options.min_tracks) return fmt::format("{} tracks", train + test);
  if (train == 0) return "no train track";
  return test == 0 ? "no test track" : "";
}

// As `prepare` undersampled the whole; the rows as they are if the card does not say how.
void undersample_by_card(const Json& card, std::vector<data::Track>& tracks) {
  const auto options = card.find("options");
  if (options == card.end() || !options->is_object() || !options->contains("undersample")) return;
  data::UndersampleRule rule = data::parse_undersample(options->value("undersample", "none"));
  rule.bin_width = options->value("bin_width", rule.bin_width);
  data::undersample(tracks, rule, options->value("seed", std::uint64_t{1}));
}

}  // namespace

std::string slug_of(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if ((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9')) {
      out += lower;
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  out.resize(std::min(out.size(), kLongestSlug));
  while (out.ends_with('-')) out.pop_back();
  return out.empty() ? "genre" : out;
}

std::vector<Scope> study_scopes(const data::DataSet& data, const ScopeOptions& options,
                                std::vector<std::string>& left_out) {
  std::vector<Scope> scopes = {{.name = "all data", .slug = "all-data", .rows = {}, .all = true}};
  if (options.genres == "none") return scopes;
  Groups groups = tracks_by_genre(data);
  const std::set<std::string> chosen = chosen_genres(options.genres, groups);
  std::set<std::string> slugs = {scopes.front().slug};
  for (auto& [name, rows] : groups) {
    std::string slug = slug_of(name);
    for (int n = 2; !slugs.insert(slug).second; ++n) slug = slug_of(name) + fmt::format("-{}", n);
    if (!chosen.empty() && !chosen.contains(name)) continue;
    if (const std::string why = shortcoming(data, rows, options); !why.empty()) {
      left_out.push_back(name + ": " + why);
      continue;
    }
    scopes.push_back({.name = name, .slug = slug, .rows = std::move(rows), .all = false});
  }
  return scopes;
}

data::DataSet genre_data(const data::DataSet& data, const Scope& scope) {
  data::DataSet out;
  out.feature_names = data.feature_names;
  out.audio_root = data.audio_root;
  out.target_map = data.target_map;
  for (const std::int64_t row : scope.rows) {
    out.tracks.push_back(data.tracks[static_cast<std::size_t>(row)]);
  }
  const Json whole = Json::parse(data.card, nullptr, false);
  Json card = Json::object();
  for (const char* key : {"version", "layout", "source", "options", "ids", "split"}) {
    if (whole.is_object() && whole.contains(key)) card[key] = whole[key];
  }
  if (whole.is_object()) undersample_by_card(whole, out.tracks);
  card["study"] = {{"genre", scope.name}, {"data_hash", data.hash}};
  out.card = card.dump(2, ' ', false, Json::error_handler_t::replace);
  return out;
}

}  // namespace onpa::apps
