// The data card: how a data set came to be.
#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/study/prepare_parts.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::ordered_json;
using Chosen = std::function<bool(const data::Track&)>;

bool in_train(const data::Track& track) {
  return track.split == data::Split::kTrain;
}
bool in_test(const data::Track& track) {
  return !in_train(track);
}
bool in_train_kept(const data::Track& track) {
  return in_train(track) && track.kept;
}

std::vector<std::int64_t> histogram(const std::vector<data::Track>& tracks, double width,
                                    const Chosen& chosen) {
  const auto bins = static_cast<std::size_t>(std::max(1.0, std::ceil(100 / width)));
  std::vector<std::int64_t> out(bins, 0);
  for (const data::Track& track : tracks) {
    if (!chosen(track)) continue;
    ++out[std::min(bins - 1, static_cast<std::size_t>(track.popularity / width))];
  }
  return out;
}

Json column_report(const data::DataSet& data) {
  Json report = Json::object();
  const auto add = [&](const std::string& name, const auto& value_of) {
    double low = INFINITY, high = -INFINITY, sum = 0;
    for (const data::Track& track : data.tracks) {
      const double value = value_of(track);
      low = std::min(low, value);
      high = std::max(high, value);
      sum += value;
    }
    report[name] = {
        {"min", low}, {"max", high}, {"mean", sum / static_cast<double>(data.tracks.size())}};
  };
  add("popularity", [](const data::Track& track) { return track.popularity; });
  for (std::size_t i = 0; i < data.feature_names.size(); ++i) {
    add(data.feature_names[i], [i](const data::Track& track) { return track.features[i]; });
  }
  return report;
}

Json options_part(const PrepareArgs& args) {
  return {{"command", args.command},
          {"features", args.features},
          {"columns", args.columns},
          {"split", args.split},
          {"train_fraction", args.train_fraction},
          {"undersample", args.undersample},
          {"bin_width", args.bin_width},
          {"target", args.target},
          {"min_popularity", args.min_popularity},
          {"min_genre", args.min_genre},
          {"genres", args.genres},
          {"seed", args.seed}};
}

Json roles_part(const CardFacts& facts) {
  Json roles = Json::object();
  for (const auto& [role, column] : facts.roles.found) {
    roles[role] = {{"column", facts.table.columns()[static_cast<std::size_t>(column)]},
                   {"alias_of", role}};
  }
  return roles;
}

Json split_part(const CardFacts& facts, double train_share) {
  const SplitKind kind = facts.split.kind;
  const bool given = kind == SplitKind::kGiven;
  Json split = {{"kind", split_name(kind)},
                {"train_fraction", given ? train_share : facts.args.train_fraction},
                {"seed", facts.args.seed}};
  if (given) split["column"] = facts.split.column;
  if (kind == SplitKind::kArtist || kind == SplitKind::kFirstArtist) {
    split["groups"] = facts.report.groups;
    split["largest_group_share"] = facts.report.largest_group;
    split["groups_kept_in_train"] = facts.report.groups_kept_in_train;
  }
  return split;
}

Json warnings_part(const CardFacts& facts) {
  Json warnings = Json::array();
  const std::string repeated = std::to_string(facts.counts.repeated_rows);
  if (facts.split.kind == SplitKind::kRows) {
    warnings.push_back("split by rows without de-duplication: " + repeated +
                       " rows repeat a track, so that tracks are in train and test at once; errors "
                       "of models come out too low");
  }
  if (facts.counts.in_both_splits > 0) {
    warnings.push_back("the given split has rows of one id in train and in test (" +
                       std::to_string(facts.counts.in_both_splits) +
                       " rows); the first row of an id decides");
  }
  return warnings;
}

Json rows_part(const Counts& counts) {
  const auto dropped =
      std::accumulate(counts.dropped_rows.begin(), counts.dropped_rows.end(), std::int64_t{0},
                      [](std::int64_t sum, const auto& reason) { return sum + reason.second; });
  return {{"read", counts.rows_read},
          {"dropped", dropped},
          {"dropped_by_reason", counts.dropped_rows},
          {"joined", counts.joined_rows},
          {"joined_with_other_numbers", counts.conflicting_rows}};
}

Json audio_part(const CardFacts& facts) {
  const Counts& counts = facts.counts;
  const auto at = counts.dropped_tracks.find(kNoAudio);
  const std::int64_t missing = at == counts.dropped_tracks.end() ? 0 : at->second;
  return {{"root", facts.args.audio},
          {"matched", facts.args.audio.empty() ? 0 : counts.distinct() - missing},
          {"missing", missing},
          {"several", counts.several_audio},
          {"files_of_no_track", counts.unused_audio}};
}

}  // namespace

std::string make_card(const data::DataSet& data, const CardFacts& facts) {
  const PrepareArgs& args = facts.args;
  const Counts& counts = facts.counts;
  const auto count = [&](const Chosen& chosen) {
    return std::count_if(data.tracks.begin(), data.tracks.end(), chosen);
  };
  const auto share = static_cast<double>(count(in_train)) / static_cast<double>(data.tracks.size());
  std::map<std::string, std::int64_t> genres;
  for (const data::Track& track : data.tracks) {
    for (const std::string& genre : track.genres()) ++genres[genre];
  }
  std::vector<std::string> genre_names;
  for (const auto& [genre, n] : genres) genre_names.push_back(genre);
  Json card;
  card["version"] = 2;
  card["layout"] = layout_name(facts.table.columns());
  card["roles"] = roles_part(facts);
  card["hashes"] = {{"csv_xxh3", facts.table.hash()}};
  card["source"] = {{"csv", args.csv}, {"csv_xxh3", facts.table.hash()}, {"audio", args.audio}};
  card["options"] = options_part(args);
  card["warnings"] = warnings_part(facts);
  card["out_of_range"] = counts.out_of_range;
  card["split"] = split_part(facts, share);
  card["duplicates"] = {{"rows_joined", counts.joined_rows},
                        {"with_other_numbers", counts.conflicting_rows},
                        {"rows_repeated", counts.repeated_rows},
                        {"in_both_splits", counts.in_both_splits}};
  card["audio"] = audio_part(facts);
  card["ids"] = facts.roles.id >= 0 ? "from the table" : "made from name and features";
  card["rows"] = rows_part(counts);
  card["tracks"] = {{"distinct", counts.distinct()},
                    {"dropped_by_reason", counts.dropped_tracks},
                    {"ids_with_several_audio_files", counts.several_audio},
                    {"used", data.tracks.size()},
                    {"train", count(in_train)},
                    {"train_kept", count(in_train_kept)},
                    {"test", count(in_test)}};
  card["columns"] = column_report(data);
  card["genres"] = genres;
  card["genres_used"] = genre_names;
  card["genres_dropped"] = counts.dropped_genres;
  card["undersampling"] = {
      {"rule", args.undersample}, {"bin_width", args.bin_width}, {"cap", facts.undersample_cap}};
  card["popularity_histogram"] = {
      {"bin_width", args.bin_width},
      {"train", histogram(data.tracks, args.bin_width, in_train)},
      {"train_kept", histogram(data.tracks, args.bin_width, in_train_kept)},
      {"test", histogram(data.tracks, args.bin_width, in_test)}};
  return card.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace onpa::apps
