#include "apps/study/prepare.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <unordered_map>

#include "data/file.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kNoAudio = "no audio file";

std::string hash_hex(std::string_view bytes) {
  std::array<char, 17> text;
  std::snprintf(text.data(), text.size(), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(bytes.data(), bytes.size())));
  return text.data();
}

// What happened to the rows; every row is in exactly one of these.
struct Counts {
  std::int64_t rows_read = 0;
  std::map<std::string, std::int64_t> dropped_rows;  // by reason
  std::int64_t joined_rows = 0;                      // a further row of a track that is there
  std::int64_t conflicting_rows = 0;  // of joined_rows: with other numbers; the first row counts
  std::map<std::string, std::int64_t> dropped_tracks;
  std::int64_t ambiguous_audio = 0;  // ids with several files; the first by path counts
};

// The columns that matter in one table.
class Columns {
 public:
  Columns(const data::Table& table, const std::vector<std::string>& features, bool need_id)
      : table_(table), feature_names_(features) {
    std::string missing;
    const auto find = [&](const std::string& name, bool required) {
      const int column = table.find_any(column_aliases(name));
      if (column < 0 && required) {
        missing += missing.empty() ? "" : ", ";
        missing += name;
        const std::vector<std::string> aliases = column_aliases(name);
        for (std::size_t i = 1; i < aliases.size(); ++i) {
          missing += (i == 1 ? " (or " : " or ") + aliases[i];
        }
        if (aliases.size() > 1) missing += ")";
      }
      return column;
    };
    id_ = find("id", need_id);
    popularity_ = find("popularity", true);
    genre_ = find("genre", false);
    name_ = find("name", false);
    for (const std::string& name : features) features_.push_back(find(name, true));
    if (missing.empty()) return;
    std::string found;
    for (const std::string& c : table.columns()) found += (found.empty() ? "" : ", ") + c;
    fail(ExitCode::kBadData, table.name(), ": missing columns: ", missing, "; found: ", found);
  }

  bool has_id() const { return id_ >= 0; }

  /// Reads a row; false and the reason if it must be dropped.
  bool read(std::int64_t row, data::Track& track, std::string& reason) const {
    if (!number(row, "popularity", popularity_, track.popularity, reason)) return false;
    if (track.popularity < 0 || track.popularity > 100) {
      reason = "popularity out of range";
      return false;
    }
    track.target = static_cast<float>(track.popularity / 100 - 0.5);
    for (std::size_t i = 0; i < features_.size(); ++i) {
      double value = 0;
      if (!number(row, feature_names_[i], features_[i], value, reason)) return false;
      track.features.push_back(static_cast<float>(value));
      if (!std::isfinite(track.features.back())) {
        reason = feature_names_[i] + " not finite";
        return false;
      }
    }
    track.id = has_id() ? std::string(table_.cell(row, id_)) : made_up_id(row, track);
    if (track.id.empty()) {
      reason = "id missing";
      return false;
    }
    if (genre_ >= 0) track.genre = table_.cell(row, genre_);
    return true;
  }

 private:
  bool number(std::int64_t row, const std::string& name, int column, double& value,
              std::string& reason) const {
    switch (parse_feature(name, table_.cell(row, column), value)) {
      case CellProblem::kNone:
        return true;
      case CellProblem::kMissing:
        reason = name + " missing";
        return false;
      case CellProblem::kNotFinite:
        reason = name + " not finite";
        return false;
      case CellProblem::kNotANumber:
        reason = name + " not a number";
        return false;
    }
    return false;
  }

  // Rows that agree in name and features are one track.
  std::string made_up_id(std::int64_t row, const data::Track& track) const {
    std::string key = name_ >= 0 ? std::string(table_.cell(row, name_)) : "";
    for (const float value : track.features) key += "\n" + std::to_string(value);
    return "row-" + hash_hex(key);
  }

  const data::Table& table_;
  const std::vector<std::string>& feature_names_;
  int id_ = -1, popularity_ = -1, genre_ = -1, name_ = -1;
  std::vector<int> features_;
};

// Adds the genres of `from` that `into` does not have.
void join_genres(data::Track& into, const data::Track& from) {
  std::vector<std::string> have = into.genres();
  for (const std::string& genre : from.genres()) {
    if (std::find(have.begin(), have.end(), genre) != have.end()) continue;
    into.genre += (into.genre.empty() ? "" : ";") + genre;
    have.push_back(genre);
  }
}

std::vector<data::Track> read_tracks(const data::Table& table, const Columns& columns,
                                     Counts& counts) {
  std::vector<data::Track> tracks;
  std::unordered_map<std::string, std::size_t> index;
  counts.rows_read = table.rows();
  for (std::int64_t row = 0; row < table.rows(); ++row) {
    data::Track track;
    std::string reason;
    if (!columns.read(row, track, reason)) {
      ++counts.dropped_rows[reason];
      continue;
    }
    const auto [at, added] = index.emplace(track.id, tracks.size());
    if (added) {
      tracks.push_back(std::move(track));
      continue;
    }
    data::Track& first = tracks[at->second];
    ++counts.joined_rows;
    if (first.features != track.features || first.popularity != track.popularity) {
      ++counts.conflicting_rows;
    }
    join_genres(first, track);
  }
  return tracks;
}

// Audio files below `root` by the part of their name before the extension.
std::map<std::string, std::string> find_audio(const fs::path& root, std::int64_t& ambiguous) {
  if (!fs::is_directory(root)) {
    fail(ExitCode::kInputMissing, root.string(), ": no such folder of audio files");
  }
  static const std::set<std::string> kExtensions = {".mp3", ".wav", ".flac",
                                                    ".ogg", ".m4a", ".opus"};
  std::map<std::string, std::string> found;
  std::set<std::string> several;
  std::error_code error;
  auto it =
      fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::string extension = it->path().extension().string();
    for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    std::error_code ignored;
    if (!kExtensions.contains(extension) || !it->is_regular_file(ignored)) continue;
    const std::string relative = it->path().lexically_relative(root).string();
    const auto [at, added] = found.emplace(it->path().stem().string(), relative);
    if (added) continue;
    several.insert(at->first);
    at->second = std::min(at->second, relative);
  }
  if (error) fail(ExitCode::kIo, root.string(), ": cannot list: ", error.message());
  ambiguous = std::ssize(several);
  return found;
}

void match_audio(std::vector<data::Track>& tracks, const fs::path& root, Counts& counts) {
  const std::map<std::string, std::string> files = find_audio(root, counts.ambiguous_audio);
  counts.dropped_tracks[kNoAudio] = std::erase_if(tracks, [&](data::Track& track) {
    const auto file = files.find(track.id);
    if (file != files.end()) track.audio = file->second;
    return file == files.end();
  });
}

std::vector<std::int64_t> histogram(const std::vector<data::Track>& tracks, double width,
                                    const std::function<bool(const data::Track&)>& counts) {
  const auto bins = static_cast<std::size_t>(std::max(1.0, std::ceil(100 / width)));
  std::vector<std::int64_t> out(bins, 0);
  for (const data::Track& track : tracks) {
    if (!counts(track)) continue;
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

std::string card_of(const data::DataSet& data, const Counts& counts, const PrepareArgs& args,
                    const std::string& csv_hash, bool has_id) {
  const auto count = [&](const std::function<bool(const data::Track&)>& f) {
    return std::count_if(data.tracks.begin(), data.tracks.end(), f);
  };
  const auto train = [](const data::Track& t) { return t.split == data::Split::kTrain; };
  const auto kept = [&](const data::Track& t) { return train(t) && t.kept; };
  const auto test = [&](const data::Track& t) { return !train(t); };
  std::map<std::string, std::int64_t> genres;
  for (const data::Track& track : data.tracks) {
    for (const std::string& genre : track.genres()) ++genres[genre];
  }
  std::vector<std::string> genre_names;
  for (const auto& [genre, n] : genres) genre_names.push_back(genre);
  std::int64_t dropped = 0;
  for (const auto& [reason, n] : counts.dropped_rows) dropped += n;
  const std::int64_t unmatched =
      counts.dropped_tracks.contains(kNoAudio) ? counts.dropped_tracks.at(kNoAudio) : 0;
  const std::int64_t distinct = counts.rows_read - dropped - counts.joined_rows;
  const Json card = {
      {"version", 2},
      {"layout", "unknown"},
      {"roles", Json::object()},
      {"hashes", {{"csv_xxh3", csv_hash}}},
      {"source", {{"csv", args.csv}, {"csv_xxh3", csv_hash}, {"audio", args.audio}}},
      {"options",
       {{"features", args.features},
        {"train_fraction", args.train_fraction},
        {"undersample", args.undersample},
        {"bin_width", args.bin_width},
        {"min_popularity", args.min_popularity},
        {"seed", args.seed}}},
      {"out_of_range", Json::object()},
      {"split", {{"kind", "random"}, {"train_fraction", args.train_fraction}, {"seed", args.seed}}},
      {"duplicates",
       {{"rows_joined", counts.joined_rows}, {"with_other_numbers", counts.conflicting_rows}}},
      {"audio",
       {{"root", args.audio},
        {"matched", args.audio.empty() ? 0 : distinct - unmatched},
        {"missing", unmatched},
        {"several", counts.ambiguous_audio}}},
      {"ids", has_id ? "from the table" : "made from name and features"},
      {"rows",
       {{"read", counts.rows_read},
        {"dropped", dropped},
        {"dropped_by_reason", counts.dropped_rows},
        {"joined", counts.joined_rows},
        {"joined_with_other_numbers", counts.conflicting_rows}}},
      {"tracks",
       {{"distinct", distinct},
        {"dropped_by_reason", counts.dropped_tracks},
        {"ids_with_several_audio_files", counts.ambiguous_audio},
        {"used", data.tracks.size()},
        {"train", count(train)},
        {"train_kept", count(kept)},
        {"test", count(test)}}},
      {"columns", column_report(data)},
      {"genres", genres},
      {"genres_used", genre_names},
      {"popularity_histogram",
       {{"bin_width", args.bin_width},
        {"train", histogram(data.tracks, args.bin_width, train)},
        {"train_kept", histogram(data.tracks, args.bin_width, kept)},
        {"test", histogram(data.tracks, args.bin_width, test)}}}};
  return card.dump(2, ' ', false, Json::error_handler_t::replace);
}

void check_options(const PrepareArgs& args) {
  if (!(args.train_fraction > 0 && args.train_fraction < 1)) {
    fail(ExitCode::kConfig, "train fraction: got ", args.train_fraction,
         ", want between 0 and 1, both excluded");
  }
  if (!(args.bin_width > 0 && args.bin_width <= 100)) {
    fail(ExitCode::kConfig, "bin width: got ", args.bin_width, ", want above 0 up to 100");
  }
}

std::string all_reasons(const Counts& counts) {
  std::string text;
  for (const auto* reasons : {&counts.dropped_rows, &counts.dropped_tracks}) {
    for (const auto& [reason, n] : *reasons) {
      if (n > 0) text += (text.empty() ? "" : ", ") + std::to_string(n) + " " + reason;
    }
  }
  return text.empty() ? "the table has no rows" : text;
}

}  // namespace

data::DataSet prepare_data(const PrepareArgs& args) {
  check_options(args);
  const data::UndersampleRule parsed = data::parse_undersample(args.undersample);
  data::UndersampleRule rule = parsed;
  rule.bin_width = args.bin_width;
  data::DataSet data;
  data.feature_names = feature_names(args.features);
  const std::string csv = data::read_file(args.csv);
  const data::Table table = data::Table::parse_csv(csv, args.csv);
  const Columns columns(table, data.feature_names, !args.audio.empty());
  Counts counts;
  data.tracks = read_tracks(table, columns, counts);
  if (!args.audio.empty()) {
    data.audio_root = args.audio;
    match_audio(data.tracks, data.audio_root, counts);
  }
  counts.dropped_tracks["popularity below the minimum"] = std::erase_if(
      data.tracks,
      [&](const data::Track& track) { return track.popularity < args.min_popularity; });
  if (data.tracks.empty()) {
    fail(ExitCode::kBadData, args.csv, ": no track is left: ", all_reasons(counts));
  }
  data::assign_split(data.tracks, args.train_fraction, args.seed);
  data::undersample(data.tracks, rule, args.seed);
  if (data.indices(data::Split::kTrain).empty() || data.indices(data::Split::kTest).empty()) {
    fail(ExitCode::kBadData, args.csv, ": ", data.tracks.size(),
         " tracks are too few for a train and a test split");
  }
  data.card = card_of(data, counts, args, hash_hex(csv), columns.has_id());
  return data;
}

}  // namespace onpa::apps
