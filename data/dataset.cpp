#include "data/dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_map>
#include <unordered_set>

#include "data/file.h"
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

// Shortest text that reads back as the same value.
template <class T>
std::string number_text(T value) {
  std::array<char, 40> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

std::string hash_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  const std::uint64_t hash = XXH3_64bits(bytes.data(), bytes.size());
  std::string hex;
  for (int shift = 60; shift >= 0; shift -= 4) hex += kDigits[(hash >> shift) & 15];
  return hex;
}

// A data set may come from someone else: its paths must not reach outside its audio folder.
bool stays_inside(const fs::path& relative) {
  return relative.is_relative() && std::none_of(relative.begin(), relative.end(),
                                                [](const fs::path& p) { return p == ".."; });
}

float target_of(double popularity) {
  return static_cast<float>(popularity / 100 - 0.5);
}

class TrackReader {
 public:
  TrackReader(const Table& table, const std::vector<std::string>& feature_names) : table_(table) {
    for (const char* name : kTrackColumns) columns_.push_back(require(name));
    group_ = table_.find(kGroupColumn);
    for (const std::string& name : feature_names) features_.push_back(require(name));
  }

  Track read(std::int64_t row) {
    Track track;
    track.id = cell(row, kId);
    if (track.id.empty()) bad(row, columns_[kId], "a track id");
    const auto [first, added] = lines_.emplace(cell(row, kId), table_.line(row));
    if (!added) {
      bad(row, columns_[kId], detail::concat("an id that line ", first->second, " does not have"));
    }
    track.audio = cell(row, kAudio);
    if (!stays_inside(track.audio)) {
      bad(row, columns_[kAudio], "a path below the audio folder, without \"..\"");
    }
    track.genre = cell(row, kGenre);
    track.popularity = number(row, columns_[kPopularity], 0, 100, "a number from 0 to 100");
    track.target = target_of(track.popularity);
    track.split = one_of(row, kSplit, "test", "train") ? Split::kTrain : Split::kTest;
    track.kept = one_of(row, kKept, "0", "1");
    if (group_ >= 0) track.group = table_.cell(row, group_);
    track.features.reserve(features_.size());
    constexpr double kLargest = std::numeric_limits<float>::max();
    for (const int column : features_) {
      track.features.push_back(
          static_cast<float>(number(row, column, -kLargest, kLargest, "a finite number")));
    }
    return track;
  }

 private:
  enum Column { kId, kAudio, kGenre, kPopularity, kSplit, kKept };

  int require(const std::string& name) const {
    const int column = table_.find(name);
    if (column >= 0) return column;
    std::string found;
    for (const std::string& c : table_.columns()) found += (found.empty() ? "" : ", ") + c;
    fail(ExitCode::kBadData, table_.name(), ":1: no column \"", name, "\", got: ", found);
  }

  [[noreturn]] void bad(std::int64_t row, int column, const std::string& want) const {
    fail(ExitCode::kBadData, table_.name(), ":", table_.line(row), ": column ",
         table_.columns()[static_cast<std::size_t>(column)], ": got \"", table_.cell(row, column),
         "\", want ", want);
  }

  std::string_view cell(std::int64_t row, Column column) const {
    return table_.cell(row, columns_[column]);
  }

  double number(std::int64_t row, int column, double low, double high, const char* want) const {
    double value = 0;
    if (!parse_number(table_.cell(row, column), value) || value < low || value > high) {
      bad(row, column, want);
    }
    return value;
  }

  bool one_of(std::int64_t row, Column column, const char* no, const char* yes) const {
    const std::string_view text = cell(row, column);
    if (text != no && text != yes) {
      bad(row, columns_[column], std::string("\"") + yes + "\" or \"" + no + "\"");
    }
    return text == yes;
  }

  const Table& table_;
  std::vector<int> columns_, features_;
  int group_ = -1;
  std::unordered_map<std::string_view, std::int64_t> lines_;  // of each id
};

void read_card(const fs::path& path, const fs::path& folder, DataSet& data) {
  data.card = read_file(path);
  try {
    const Json card = Json::parse(data.card);
    const fs::path root = card.at("audio_root").get<std::string>();
    data.audio_root =
        root.empty() || root.is_absolute() ? root : (folder / root).lexically_normal();
    data.feature_names = card.at("feature_names").get<std::vector<std::string>>();
  } catch (const Json::exception& e) {
    fail(ExitCode::kBadData, path.string(), ": not a data card: ", e.what());
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
  std::unordered_set<std::string_view> ids;
  for (const Track& track : data.tracks) {
    const bool finite = std::all_of(track.features.begin(), track.features.end(),
                                    [](float x) { return std::isfinite(x); });
    const char* wrong = nullptr;
    if (track.id.empty()) wrong = "no id";
    if (!ids.insert(track.id).second) wrong = "its id twice";
    if (!(track.popularity >= 0 && track.popularity <= 100))
      wrong = "a popularity outside [0, 100]";
    if (track.features.size() != data.feature_names.size()) wrong = "a wrong number of features";
    if (!finite) wrong = "a feature that is not finite";
    if (!stays_inside(track.audio)) wrong = "an audio path outside the audio folder";
    if (wrong != nullptr) {
      fail(ExitCode::kBadData, "data set: track \"", track.id, "\" has ", wrong);
    }
  }
}

std::string tracks_csv(const DataSet& data) {
  std::vector<std::string> cells(kTrackColumns.begin(), kTrackColumns.end());
  cells.emplace_back(kGroupColumn);
  cells.insert(cells.end(), data.feature_names.begin(), data.feature_names.end());
  std::string text = csv_line(cells);
  for (const Track& track : data.tracks) {
    cells = {track.id,
             track.audio,
             track.genre,
             number_text(track.popularity),
             track.split == Split::kTrain ? "train" : "test",
             track.kept ? "1" : "0",
             track.group};
    for (const float value : track.features) cells.push_back(number_text(value));
    text += csv_line(cells);
  }
  return text;
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
  std::string text = read_file(tracks);
  data.hash = hash_hex(text);
  const Table table = Table::parse_csv(std::move(text), tracks.string());
  TrackReader reader(table, data.feature_names);
  data.tracks.reserve(static_cast<std::size_t>(table.rows()));
  for (std::int64_t row = 0; row < table.rows(); ++row) data.tracks.push_back(reader.read(row));
  return data;
}

void DataSet::save(const fs::path& folder) const {
  check_savable(*this);
  const io::FaultScope faults(io::FileKind::kData);
  io::make_folders(folder);
  // Both are on the disk before a data set that is there is touched.
  const std::string tracks_text = tracks_csv(*this);
  io::StagedFile tracks_file(folder / "tracks.csv", tracks_text);
  io::StagedFile card_file(folder / "card.json", card_text(*this, folder, hash_hex(tracks_text)));
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
