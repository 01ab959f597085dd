// The whole study: both models on all data and on each genre by itself, and one file with all
// figures.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apps/commands/study.h"
#include "apps/study/cells.h"
#include "apps/study/scopes.h"
#include "apps/study/study_results.h"
#include "apps/support/config.h"
#include "data/dataset.h"

namespace onpa::apps {

/// What a study is going to do.
struct StudyPlan {
  StudyFolder folder;
  std::vector<std::string> models;        // as asked for
  std::map<std::string, Config> configs;  // of plain cells
  std::vector<Scope> scopes;
  std::vector<std::string> left_out;  // genres, with the reason
  std::vector<Cell> cells;            // scope by scope, then the variants
  std::string start_hash;             // of the weights that passt starts from; empty: none
};

/// Throws Error: kConfig for settings, models, genres or variants that make no sense; what
/// StartWeights throws for args.init_from.
StudyPlan plan_study(const StudyArgs& args, const data::DataSet& data);

/// Goes through the whole study and leaves in args.out: data/ (a data set a genre), configs/,
/// runs/, logs/, results/, study.json, table1 and table2 as .json, .csv and .md, and the report.
/// What is done already is not done again. Prints the tables to stdout, one line a model to stderr.
/// Returns an exit code: kStopped if it was asked to stop, then the same call goes on; kCheckFailed
/// if a model could not be trained, with everything else written. Throws Error: kConfig for a model
/// that is there already with other settings or data, naming both; kUsage as one of several ranks;
/// kCannotCreate if another study uses the folder.
int run_study_plan(const StudyArgs& args);

}  // namespace onpa::apps
