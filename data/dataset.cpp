#include "data/dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_set>

#include "data/csv_reader.h"
#include "data/file.h"
#include "data/id_index.h"
#include "data/table.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::data {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 6> kTrackColumns = {"id",         "audio", "genre",
                                                      "popularity", "split", "kept"};
constexpr const char* kGroupColumn = "group";

// The shortest text that reads back as the same value.
template <class T>
void append_number(std::string& line, T value) {
  std::array<char, 40> text;
  line.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr);
}

// A data set may come from someone else: its paths must not reach outside its audio folder.
bool stays_inside(const fs::path& relative) {
  return relative.is_relative() && std::none_of(relative.begin(), relative.end(),
                                                [](const fs::path& p) { return p == ".."; });
}

// The rows of tracks.csv as tracks.
class TrackReader {
 public:
  TrackReader(CsvReader& rows, const DataSet& data) : rows_(rows), target_map_(data.target_map) {
    for (const char* name : kTrackColumns) columns_.push_back(require(name));
    group_ = rows_.find(kGroupColumn);
    for (const std::string& name : data.feature_names) features_.push_back(require(name));
  }

  std::vector<Track> read_all() {
    std::vector<Track> tracks;
    std::vector<std::int64_t> lines;
    IdIndex ids([&](std::size_t i) -> std::string_view { return tracks[i].id; });
    while (rows_.next()) {
      if (cell(kId).empty()) bad(columns_[kId], "a track id");
      const std::size_t first = ids.find_or_add(cell(kId), tracks.size());
      if (first != ids.kNone) {
        bad(columns_[kId], detail::concat("an id that line ", lines[first], " does not have"));
      }
      tracks.push_back(read());
      lines.push_back(rows_.line());
    }
    return tracks;
  }

 private:
  enum Column { kId, kAudio, kGenre, kPopularity, kSplit, kKept };

  Track read() const {
    Track track;
    track.id = cell(kId);
    track.audio = cell(kAudio);
    if (!track.audio.empty() && !stays_inside(track.audio)) {
      bad(columns_[kAudio], "a path below the audio folder, without \"..\"");
    }
    track.genre = cell(kGenre);
    track.popularity = number(columns_[kPopularity], 0, 100, "a number from 0 to 100");
    track.target = target_map_.target(track.popularity);
    track.split = one_of(kSplit, "test", "train") ? Split::kTrain : Split::kTest;
    track.kept = one_of(kKept, "0", "1");
    if (group_ >= 0) track.group = rows_.cell(group_);
    track.features.reserve(features_.size());
    constexpr double kLargest = std::numeric_limits<float>::max();
    for (const int column : features_) {
      track.features.push_back(
          static_cast<float>(number(column, -kLargest, kLargest, "a finite number")));
    }
    return track;
  }

  int require(const std::string& name) const {
    const int column = rows_.find(name);
    if (column >= 0) return column;
    std::string found;
    for (const std::string& c : rows_.columns()) found += (found.empty() ? "" : ", ") + c;
    fail(ExitCode::kBadData, rows_.name(), ":1: no column \"", name, "\", got: ", found);
  }

  [[noreturn]] void bad(int column, const std::string& want) const {
    fail(ExitCode::kBadData, rows_.name(), ":", rows_.line(), ": column ",
         rows_.columns()[static_cast<std::size_t>(column)], ": got \"", rows_.cell(column),
         "\", want ", want);
  }

  std::string_view cell(Column column) const { return rows_.cell(columns_[column]); }

  double number(int column, double low, double high, const char* want) const {
    double value = 0;
    if (!parse_number(rows_.cell(column), value) || value < low || value > high) bad(column, want);
    return value;
  }

  bool one_of(Column column, const char* no, const char* yes) const {
    const std::string_view text = cell(column);
    if (text != no && text != yes) {
      bad(columns_[column], std::string("\"") + yes + "\" or \"" + no + "\"");
    }
    return text == yes;
  }

  CsvReader& rows_;
  const TargetMap& target_map_;
  std::vector<int> columns_, features_;
  int group_ = -1;
};

void read_card(const fs::path& path, const fs::path& folder, DataSet& data) {
  data.card = read_file(path);
  try {
    const Json card = Json::parse(data.card);
    const fs::path root = card.at("audio_root").get<std::string>();
    data.audio_root =
        root.empty() || root.is_absolute() ? root : (folder / root).lexically_normal();
    data.feature_names = card.at("feature_names").get<std::vector<std::string>>();
    if (card.contains("target")) {
      const Json& target = card["target"];
      data.target_map = {.low = target.at("low").get<double>(),
                         .high = target.at("high").get<double>()};
    }
  } catch (const Json::exception& e) {
    fail(ExitCode::kBadData, path.string(), ": not a data card: ", e.what());
  }
  const TargetMap& map = data.target_map;
  if (!(map.low >= 0 && map.low < map.high && map.high <= 100)) {
    fail(ExitCode::kBadData, path.string(), ": target from ", map.low, " to ", map.high,
         ", want low below high, both from 0 to 100");
  }
}

void check_savable(const DataSet& data) {
  std::unordered_set<std::string_view> names(kTrackColumns.begin(), kTrackColumns.end());
  names.insert(kGroupColumn);
  for (const std::string& name : data.feature_names) {
    if (name.empty() || !names.insert(name).second) {
      fail(ExitCode::kBadData, "data set: feature name \"", name, "\" is empty or taken");
    }
  }
  IdIndex ids([&](std::size_t i) -> std::string_view { return data.tracks[i].id; });
  for (std::size_t i = 0; i < data.tracks.size(); ++i) {
    const Track& track = data.tracks[i];
    const bool finite = std::all_of(track.features.begin(), track.features.end(),
                                    [](float x) { return std::isfinite(x); });
    const char* wrong = nullptr;
    if (track.id.empty()) wrong = "no id";
    if (ids.find_or_add(track.id, i) != ids.kNone) wrong = "its id twice";
    if (!(track.popularity >= 0 && track.popularity <= 100))
      wrong = "a popularity outside [0, 100]";
    if (track.features.size() != data.feature_names.size()) wrong = "a wrong number of features";
    if (!finite) wrong = "a feature that is not finite";
    if (!track.audio.empty() && !stays_inside(track.audio))
      wrong = "an audio path outside the audio folder";
    if (wrong != nullptr) {
      fail(ExitCode::kBadData, "data set: track \"", track.id, "\" has ", wrong);
    }
  }
}

void append_row(std::string& text, const Track& track) {
  append_csv_cell(text, track.id);
  for (const std::string* cell : {&track.audio, &track.genre}) {
    text += ',';
    append_csv_cell(text, *cell);
  }
  text += ',';
  append_number(text, track.popularity);
  text += track.split == Split::kTrain ? ",train," : ",test,";
  text += track.kept ? "1," : "0,";
  append_csv_cell(text, track.group);
  for (const float value : track.features) {
    text += ',';
    append_number(text, value);
  }
  text += '\n';
}

// Writes tracks.csv a piece at a time; returns the hash of all.
std::uint64_t write_tracks(const DataSet& data, io::FileWriter& file) {
  constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  std::vector<std::string> names(kTrackColumns.begin(), kTrackColumns.end());
  names.emplace_back(kGroupColumn);
  names.insert(names.end(), data.feature_names.begin(), data.feature_names.end());
  std::string text = csv_line(names);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(),
                                                                      XXH3_freeState);
  ONPA_CHECK(hash != nullptr, "data set: no memory for a hash");
  XXH3_64bits_reset(hash.get());
  const auto flush = [&] {
    XXH3_64bits_update(hash.get(), text.data(), text.size());
    file.write(text);
    text.clear();
  };
  for (const Track& track : data.tracks) {
    append_row(text, track);
    if (text.size() >= kPieceBytes) flush();
  }
  if (!text.empty()) flush();
  return XXH3_64bits_digest(hash.get());
}

std::string card_text(const DataSet& data, const fs::path& folder, const std::string& hash) {
  Json card = Json::object();
  if (!data.card.empty()) card = Json::parse(data.card, nullptr, false);
  ONPA_CHECK(card.is_object(), "data set: card is not a JSON object: ", data.card);
  fs::path root;
  if (!data.audio_root.empty()) {
    root = fs::weakly_canonical(data.audio_root);
    const fs::path inside = root.lexically_relative(fs::canonical(folder));
    if (!inside.empty() && *inside.begin() != "..") root = inside;
  }
  card["audio_root"] = root.string();
  card["feature_names"] = data.feature_names;
  card["target"] = {{"low", data.target_map.low}, {"high", data.target_map.high}};
  if (!card["hashes"].is_object()) card["hashes"] = Json::object();
  card["hashes"]["tracks_xxh3"] = hash;
  return card.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::vector<std::string> Track::genres() const {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= genre.size();) {
    const std::size_t end = std::min(genre.find(';', begin), genre.size());
    const std::size_t first = std::min(genre.find_first_not_of(" \t", begin), end);
    const std::size_t last = first == end ? end : genre.find_last_not_of(" \t", end - 1) + 1;
    const std::string part = genre.substr(first, last - first);
    if (!part.empty() && std::find(parts.begin(), parts.end(), part) == parts.end()) {
      parts.push_back(part);
    }
    begin = end + 1;
  }
  return parts;
}

DataSet DataSet::load(const fs::path& folder) {
  for (const char* name : {"card.json", "tracks.csv"}) {
    if (!fs::exists(folder / name)) {
      fail(ExitCode::kInputMissing, (folder / name).string(),
           ": not there; a prepared data set has tracks.csv and card.json (see onpa prepare)");
    }
  }
  DataSet data;
  read_card(folder / "card.json", folder, data);
  const fs::path tracks = folder / "tracks.csv";
  CsvReader rows(tracks);
  data.tracks = TrackReader(rows, data).read_all();
  data.hash = rows.hash();
  if (data.target_map != TargetMap{}) {
    std::string text = data.hash;
    for (const double end : {data.target_map.low, data.target_map.high}) {
      text += ' ';
      append_number(text, end);
    }
    data.hash = hash_hex(XXH3_64bits(text.data(), text.size()));
  }
  return data;
}

void DataSet::map_targets(const TargetMap& map) {
  target_map = map;
  for (Track& track : tracks) track.target = map.target(track.popularity);
}

void DataSet::save(const fs::path& folder) const {
  check_savable(*this);
  const io::FaultScope faults(io::FileKind::kData);
  io::make_folders(folder);
  // Both are on the disk before a data set that is there is touched.
  std::uint64_t hash = 0;
  io::StagedFile tracks_file(folder / "tracks.csv",
                             [&](io::FileWriter& file) { hash = write_tracks(*this, file); });
  io::StagedFile card_file(folder / "card.json", card_text(*this, folder, hash_hex(hash)));
  std::error_code ignored;
  fs::remove(folder / "card.json", ignored);
  tracks_file.commit();
  card_file.commit();
}

std::vector<std::int64_t> DataSet::indices(Split split) const {
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < tracks.size(); ++i) {
    const bool used = split == Split::kTest || tracks[i].kept;
    if (tracks[i].split == split && used) rows.push_back(static_cast<std::int64_t>(i));
  }
  return rows;
}

}  // namespace onpa::data
