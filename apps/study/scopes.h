// What a study trains its models on: all data, then each genre by itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace onpa::apps {

struct Scope {
  std::string name;                // "all data", or the genre
  std::string slug;                // its name in paths: lower-case letters, digits, '-'
  std::vector<std::int64_t> rows;  // of the genre's tracks; empty for all data
  bool all = false;
};

struct ScopeOptions {
  std::string genres = "all";  // all | none | names, separated by commas
  std::int64_t min_tracks = 1;
  bool audio = false;  // count only tracks that have a file
};

/// "all data", then the genres by name that have at least `min_tracks` tracks, and tracks both to
/// train on and to test with; what keeps the others out goes to `left_out`, one line each. Slugs
/// depend on the data set alone, not on the options. Throws Error (kConfig) for a genre that the
/// data set does not have, with the nearest name.
std::vector<Scope> study_scopes(const data::DataSet& data, const ScopeOptions& options,
                                std::vector<std::string>& left_out);

/// The tracks of a genre, with the split that they have in `data`, which depends on no other track;
/// its train part is undersampled anew by the rule of the data card. Its card names `data` by hash.
data::DataSet genre_data(const data::DataSet& data, const Scope& scope);

/// `name` as part of a path: letters and digits of ASCII in lower case, '-' for runs of the rest.
std::string slug_of(const std::string& name);

}  // namespace onpa::apps
