// Training on more of what is rare (data.rare): SMOGN for features, mixtures of clips for audio.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/support/config.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/relevance.h"
#include "tensor/tensor.h"

namespace onpa::apps {

/// What a Dense trains on: scaled features (rows, columns) f32 and targets as in the data set.
struct DenseTable {
  Tensor x;
  std::vector<double> y;
};
/// SMOGN's set in place of `table`, of which row i is track rows[i]: the rows that it keeps, in
/// their order, then the synthetic ones. Says in the log what it did, and warns if nothing is rare.
DenseTable with_smogn(const DenseTable& table, const std::vector<std::int64_t>& rows,
                      const Config& config);

/// The items of epochs of audio in which each bump of the targets of `rows` has the number of items
/// that SMOGN balances it to. Of a large bump an epoch has a random choice of tracks, another one
/// in each epoch. A track of a small bump is there as it is, and as often again as SMOGN would make
/// rows of it, each time mixed with another one: of those whose places are at most
/// data.rare_neighbours from its own when the bump is ordered by target (equal targets in random
/// order). Draws depend on (train.seed, epoch, track) and the copy. `data` and `rows` are not
/// needed afterwards.
std::function<std::vector<data::EpochItem>(std::uint64_t epoch)> rare_items(
    const data::DataSet& data, const std::vector<std::int64_t>& rows, const Config& config);

/// Bumps and what becomes of them, in one line: "-0.5 to -0.21: 120 tracks, rare, 401 of them
/// added;
/// ...".
std::string describe(const std::vector<data::Bump>& bumps);

}  // namespace onpa::apps
