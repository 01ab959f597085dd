// Which tracks a run learns from and which it is measured on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/support/config.h"
#include "data/dataset.h"

namespace onpa::apps {

/// Rows of a data set, ascending.
struct TrainRows {
  std::vector<std::int64_t> train;
  std::vector<std::int64_t> evaluation;
  std::string evaluated;  // what `evaluation` is: "test" or "validation"
};

/// With data.validation = 0: the train split (with data.undersampled what undersampling left of it)
/// and the test split. Else no test track is in either
/// list: each group (data::Track::group_key()) of the train split is held out with
/// that probability, which depends on (train.seed, key) alone, and `evaluation` is what is held
/// out, those tracks included that undersampling took from the train split, so that it looks like
/// the test split. For passt only rows with audio. Throws Error (kBadData) if nothing is left to
/// train on, or nothing is held out where it has to be.
TrainRows train_rows(const data::DataSet& data, const Config& config);

/// With data.permute_targets: `data` in which the tracks of `rows` have exchanged their targets, as
/// train.seed says. Else nothing.
std::optional<data::DataSet> with_permuted_targets(const data::DataSet& data,
                                                   const std::vector<std::int64_t>& rows,
                                                   const Config& config);

/// Whether data.validation holds a group out of the train split.
bool held_out(const std::string& group, const Config& config);

}  // namespace onpa::apps
