// The whole study on a corpus with known answers: render, prepare, train both models, compare.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/commands/commands.h"
#include "apps/study/corpus.h"
#include "apps/study/tables.h"

namespace onpa::apps {

/// Which statements of the demo decide its exit code. Those that are not checked are printed all
/// the same, as expected.
struct DemoBounds {
  // Highest RMSE on the test split; with none the floors are printed and not compared.
  std::optional<double> dense_rmse, passt_rmse;
  bool baselines = true;       // both models are below them
  bool order = true;           // over all data passt has the lower MAE
  bool planted_order = false;  // in the planted genre dense has
};

/// What the demo trains, and on how much.
struct DemoPlan {
  std::filesystem::path folder;
  bool full = false;
  CorpusOptions corpus;
  DemoBounds bounds;
  std::vector<std::string> dense_settings, passt_settings;  // "section.key=value"
};

/// The small plan takes a minute or two on two free cores; the full one is large enough to bring
/// both models near their floors. With `full`, the default folder becomes "demo-full".
DemoPlan demo_plan(const DemoArgs& args);

/// Goes through all stages and prints both tables, the floors and the checks to stdout; progress
/// and the time of each stage go to stderr. Leaves in the folder: corpus/, data/, runs/dense,
/// runs/passt, the tables, predictions.csv, demo.json (plan, floors, checks) and seconds.json (the
/// longest time that each stage took). What is done already is not done again. Returns an exit
/// code: kStopped if the training was interrupted, then the same call goes on; kCheckFailed if a
/// check does not hold, which stderr names, with everything written and printed. Throws Error as
/// the stages do.
int run_demo_plan(const DemoPlan& plan);

/// One statement that the demo makes, with the figures that it rests on.
struct DemoCheck {
  std::string statement;
  bool holds = false;
  std::string figures;
  bool checked = true;  // false: expected, but the test split is too small to demand it
};

/// The statements of the demo: each model near its floor (where `bounds` has one), both below the
/// baselines, audio ahead over all data, the order turned round in the planted genre.
std::vector<DemoCheck> demo_checks(const data::DataSet& data,
                                   const std::vector<ModelResult>& results, const Floors& floors,
                                   const DemoBounds& bounds);

}  // namespace onpa::apps
