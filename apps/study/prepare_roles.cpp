// Which column of a table is what.
#include <algorithm>

#include "apps/study/prepare_parts.h"
#include "apps/support/suggest.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

class RoleFinder {
 public:
  RoleFinder(const data::CsvReader& table, const PrepareArgs& args) : table_(table) {
    for (const std::string& text : args.columns) {
      const std::size_t equals = text.find('=');
      if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
        fail(ExitCode::kConfig, "column: got \"", text, "\", want ROLE=HEADER");
      }
      chosen_.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
  }

  int find(const std::string& role, bool required) {
    asked_.push_back(role);
    int column = chosen(role);
    if (column < 0) column = claimed(role);
    if (column < 0) {
      if (required) note_missing(role);
      return -1;
    }
    for (const auto& [other, taken] : found_) {
      if (taken != column) continue;
      fail(ExitCode::kBadData, table_.name(), ": column \"", header(column), "\" is both ", other,
           " and ", role);
    }
    found_.emplace_back(role, column);
    return column;
  }

  void note_missing(const std::string& what) {
    missing_ += (missing_.empty() ? "" : ", ") + what;
    for (const std::string& alias : column_aliases(what)) {
      const std::string near = suggestion(alias, table_.columns());
      if (near.empty()) continue;
      missing_ += near;
      return;
    }
  }

  /// After all have been looked for. Throws what was wrong.
  std::vector<std::pair<std::string, int>> finish() {
    if (!missing_.empty()) {
      fail(ExitCode::kBadData, table_.name(), ": missing columns: ", missing_,
           "; found: ", joined(table_.columns()),
           "; a column that is called otherwise is named with --column ROLE=HEADER");
    }
    for (const auto& [role, header] : chosen_) {
      if (std::find(asked_.begin(), asked_.end(), role) != asked_.end()) continue;
      fail(ExitCode::kConfig, "column: got role \"", role, "\"", suggestion(role, asked_),
           ", want one of ", joined(asked_));
    }
    return std::move(found_);
  }

 private:
  const std::string& header(int column) const {
    return table_.columns()[static_cast<std::size_t>(column)];
  }

  int chosen(const std::string& role) const {
    int column = -1;
    for (const auto& [name, header] : chosen_) {
      if (name != role) continue;
      if (column >= 0) fail(ExitCode::kConfig, "column: role \"", role, "\" is given twice");
      column = table_.find(header);
      if (column < 0) {
        fail(ExitCode::kBadData, table_.name(), ": no column \"", header, "\" for ", role,
             suggestion(header, table_.columns()), "; found: ", joined(table_.columns()));
      }
    }
    return column;
  }

  int claimed(const std::string& role) const {
    const std::vector<std::string> aliases = column_aliases(role);
    int column = -1;
    for (int c = 0; c < std::ssize(table_.columns()); ++c) {
      const std::string name = plain_header(header(c));
      const bool claims = std::any_of(aliases.begin(), aliases.end(), [&](const std::string& a) {
        return plain_header(a) == name;
      });
      if (!claims) continue;
      if (column >= 0) {
        fail(ExitCode::kBadData, table_.name(), ": columns \"", header(column), "\" and \"",
             header(c), "\" both claim to be ", role, "; choose with --column ", role, "=HEADER");
      }
      column = c;
    }
    return column;
  }

  const data::CsvReader& table_;
  std::vector<std::pair<std::string, std::string>> chosen_;  // role, header
  std::vector<std::string> asked_;
  std::vector<std::pair<std::string, int>> found_;
  std::string missing_;
};

}  // namespace

SplitRule parse_split(const std::string& text) {
  if (text == "random") return {SplitKind::kRandom};
  if (text == "artist") return {SplitKind::kArtist};
  if (text == "first-artist") return {SplitKind::kFirstArtist};
  if (text == "rows") return {SplitKind::kRows};
  constexpr std::string_view kColumn = "column:";
  if (text.starts_with(kColumn) && text.size() > kColumn.size()) {
    return {SplitKind::kGiven, text.substr(kColumn.size())};
  }
  fail(ExitCode::kConfig, "split: got \"", text, "\"",
       suggestion(text, {"random", "artist", "first-artist", "rows"}),
       ", want random, artist, first-artist, column:NAME or rows");
}

const char* split_name(SplitKind kind) {
  switch (kind) {
    case SplitKind::kArtist:
      return "artist";
    case SplitKind::kFirstArtist:
      return "first-artist";
    case SplitKind::kGiven:
      return "given";
    case SplitKind::kRows:
      return "rows";
    case SplitKind::kRandom:
      break;
  }
  return "random";
}

Roles find_roles(const data::CsvReader& table, const std::vector<std::string>& features,
                 const PrepareArgs& args, const SplitRule& split) {
  RoleFinder finder(table, args);
  Roles roles;
  roles.id = finder.find("id", !args.audio.empty());
  roles.popularity = finder.find("popularity", true);
  roles.genre = finder.find("genre", false);
  if (roles.id < 0) roles.name = finder.find("name", false);
  const bool by_artist = split.kind == SplitKind::kArtist || split.kind == SplitKind::kFirstArtist;
  if (by_artist) roles.artists = finder.find("artists", true);
  if (split.kind == SplitKind::kGiven) {
    roles.split = table.find(split.column);
    if (roles.split < 0) finder.note_missing(split.column);
  }
  for (const std::string& name : features) {
    if (name == "popularity") {
      fail(ExitCode::kConfig, "features: popularity is what the models are to predict");
    }
    roles.features.push_back(finder.find(name, true));
  }
  roles.found = finder.finish();
  if (roles.split >= 0) roles.found.emplace_back("split", roles.split);
  return roles;
}

}  // namespace onpa::apps
