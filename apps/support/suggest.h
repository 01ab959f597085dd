// "Did you mean": the nearest of some names.
#pragma once

#include <string>
#include <vector>

namespace onpa::apps {

/// The name nearest to `word` in edit distance, or one whose last dotted part is `word`; empty if
/// none is near.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names);
/// " (did you mean 'train.lr'?)", or "" when nothing is near.
std::string suggestion(const std::string& word, const std::vector<std::string>& names);

}  // namespace onpa::apps
