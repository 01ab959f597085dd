// The stages of `onpa prepare`, from rows of text to tracks with a split. What a user of a data set
// needs is in prepare.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "apps/study/prepare.h"
#include "data/csv_reader.h"
#include "data/dataset.h"

namespace onpa::apps {

/// A header as aliases are compared with: lower case, spaces and hyphens as underscores.
std::string plain_header(std::string_view header);
/// The public table that has such headers, or "unknown".
std::string layout_name(const std::vector<std::string>& columns);
/// Whether the service can have answered this value; true for columns that it does not have.
bool in_range(const std::string& canonical, double value);
/// The parts of "A;B" or of "['A', \"B\"]", trimmed, each once, in order.
std::vector<std::string> list_parts(std::string_view cell);

enum class SplitKind { kRandom, kArtist, kFirstArtist, kGiven, kRows };
struct SplitRule {
  SplitKind kind = SplitKind::kRandom;
  std::string column = {};  // kGiven
};
/// Throws Error (kConfig).
SplitRule parse_split(const std::string& text);
/// "random", "artist", "first-artist", "given" or "rows".
const char* split_name(SplitKind kind);

/// The columns of a table that matter, -1 where there is none.
struct Roles {
  int id = -1, popularity = -1, genre = -1, name = -1, artists = -1, split = -1;
  std::vector<int> features;
  std::vector<std::pair<std::string, int>> found;  // role and column, in the order asked for
};
/// Throws Error: kBadData naming all missing columns with the nearest headers, or two columns that
/// claim one role; kConfig for a bad --column.
Roles find_roles(const data::CsvReader& table, const std::vector<std::string>& features,
                 const PrepareArgs& args, const SplitRule& split);

/// The reason for which tracks without a file are dropped.
constexpr const char* kNoAudio = "no audio file";

/// What happened to the rows and tracks; every row is dropped for one reason, joined or a track.
struct Counts {
  std::int64_t rows_read = 0;
  std::map<std::string, std::int64_t> dropped_rows;  // by reason
  std::map<std::string, std::int64_t> out_of_range;  // cells by column
  std::int64_t joined_rows = 0;                      // a further row of a track that is there
  std::int64_t conflicting_rows = 0;  // of joined_rows: with other numbers; the first row counts
  std::int64_t repeated_rows = 0;     // further rows of an id that stayed tracks (split "rows")
  std::int64_t in_both_splits = 0;    // given split: rows joined to a track of the other side
  std::map<std::string, std::int64_t> dropped_tracks;
  std::map<std::string, std::int64_t> dropped_genres;  // too small, with their tracks
  std::int64_t several_audio = 0;  // ids with several files; the first by path counts
  std::int64_t unused_audio = 0;   // audio files of no track
  std::int64_t distinct() const;   // tracks that were read
};

/// Artists as sets of those who recorded together.
class ArtistGroups {
 public:
  /// Notes the artists of a track, and returns the number of the first; they are one group unless
  /// `first_only`. `artists` must not be empty.
  std::uint32_t add(const std::vector<std::string>& artists, bool first_only);
  void join(std::uint32_t a, std::uint32_t b);
  /// The name that stands for the group of an artist: the first of all in it, by the alphabet.
  const std::string& name(std::uint32_t artist);

 private:
  std::uint32_t root(std::uint32_t artist);
  std::unordered_map<std::string, std::uint32_t> numbers_;
  std::vector<const std::string*> names_;  // of the group, at its root
  std::vector<std::uint32_t> parents_;
};

/// Reads all rows.
class RowReader {
 public:
  RowReader(data::CsvReader& table, const Roles& roles, const std::vector<std::string>& features,
            const SplitRule& split, Counts& counts);
  /// With Track::group set for splits by artist, Track::split for a given one.
  std::vector<data::Track> read_all();
  /// For the split "rows": track and the first with its id, whose audio it shares.
  const std::vector<std::pair<std::size_t, std::size_t>>& repeats() const { return repeats_; }

 private:
  bool read(data::Track& track);
  bool number(const std::string& name, int column, double& value);
  bool read_numbers(data::Track& track);
  bool read_split(data::Track& track);
  std::string made_up_id(const data::Track& track) const;
  void join(data::Track& first, const data::Track& further);
  void note_artists(std::size_t track, bool added);

  data::CsvReader& table_;
  const Roles& roles_;
  const std::vector<std::string>& feature_names_;
  SplitRule split_;
  Counts& counts_;
  std::string reason_;  // why the row at hand is dropped
  std::vector<std::pair<std::size_t, std::size_t>> repeats_;
  ArtistGroups groups_;
  std::vector<std::uint32_t> artist_;  // of each track; kNoArtist
};

/// Sets Track::audio from the files below `root` and drops tracks without one.
void match_audio(std::vector<data::Track>& tracks, const std::string& root,
                 const std::vector<std::pair<std::size_t, std::size_t>>& repeats, Counts& counts);
/// Drops tracks by popularity and genre. Throws Error (kConfig) for a genre that no track has.
void filter_tracks(std::vector<data::Track>& tracks, const PrepareArgs& args, Counts& counts);

/// What the card says of the split.
struct SplitReport {
  std::int64_t groups = 0;                // by artist
  double largest_group = 0;               // its share of the tracks
  std::int64_t groups_kept_in_train = 0;  // too large to be left to chance
};
/// Throws Error (kBadData) if the artists cannot be parted.
SplitReport split_tracks(std::vector<data::Track>& tracks, const PrepareArgs& args,
                         const SplitRule& split);

/// The data card as text (docs/data.md).
struct CardFacts {
  const PrepareArgs& args;
  const SplitRule& split;
  const Roles& roles;
  const data::CsvReader& table;
  const Counts& counts;
  const SplitReport& report;
  std::int64_t undersample_cap;
};
std::string make_card(const data::DataSet& data, const CardFacts& facts);

}  // namespace onpa::apps
