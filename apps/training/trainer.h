// The training loop of both models.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/support/config.h"
#include "apps/training/profile.h"
#include "apps/training/ranks.h"
#include "apps/training/train_report.h"
#include "data/dataset.h"
#include "nn/adapt.h"

namespace onpa::apps {

struct TrainOptions {
  std::filesystem::path data;  // data set folder
  std::filesystem::path run;   // run folder, made if missing
  Config config;
  std::string resume = "auto";  // auto | must | no
  /// Weights to start from: a file, a checkpoint or a run; empty: none. See with_start().
  std::filesystem::path init_from;
  std::string init_set = {};            // which of several sets of weights; empty: the default
  std::vector<std::string> given = {};  // keys of `config` that somebody chose
  bool quiet = false;
  std::string device = "auto";  // auto | cpu | cuda; auto takes a GPU if one can be used
  std::optional<ProfileWindow> profile = {};      // steps to record
  std::shared_ptr<const nn::Adapted> start = {};  // a PaSST's weights of init_from, on rank 0
  std::string start_hash = {};                    // StartWeights::hash() of them
  TrainReport* report = nullptr;  // kept up to date by rank 0, if there is one; outlives the run
};

/// Trains until train.epochs or train.max_steps and leaves checkpoints, metrics and events in the
/// run folder; with `profile` also profile.json and profile.csv, and a table on stdout. A run that
/// was interrupted and resumed has the bits of one that never was. Returns kOk; kStopped after
/// SIGINT, SIGTERM or SIGUSR1 (a checkpoint was saved); kIo when the last checkpoint could not be
/// written. Throws Error: kBadData when too many tracks cannot be read (a checkpoint was saved,
/// bad_tracks.csv lists them), kDiverged, kBadCheckpoint, kCannotCreate, kConfig, kDevice,
/// kOutOfMemory.
int train(const TrainOptions& options);

/// The same as one of several ranks, all of which call it; train.batch_size is the batch of all
/// together, so that their number changes nothing but the order of sums. Rank 0 owns the run
/// folder; it need not be reachable for the others. `data` is options.data, loaded. All ranks
/// return the same code, and throw together: what one of them could not do is an ElsewhereError for
/// the others. Throws Error: kDevice too when the weights of the ranks are no longer the same.
int train(const TrainOptions& options, const data::DataSet& data, Ranks& ranks);

}  // namespace onpa::apps
