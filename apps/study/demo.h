// The whole study on a corpus with known answers: render, prepare, train both models, compare.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/commands/commands.h"
#include "apps/study/corpus.h"
#include "apps/study/tables.h"

namespace onpa::apps {

/// What the demo trains, and on how much.
struct DemoPlan {
  std::filesystem::path folder;
  bool full = false;
  CorpusOptions corpus;
  std::vector<std::string> dense_settings, passt_settings;  // "section.key=value"
};

/// The small plan takes a minute or two on two free cores; the full one is large enough to bring
/// both models near their floors. With `full`, the default folder becomes "demo-full".
DemoPlan demo_plan(const DemoArgs& args);

/// Goes through all stages and prints both tables, the floors and the checks to stdout; progress
/// and the time of each stage go to stderr. Leaves in the folder: corpus/, data/, runs/dense,
/// runs/passt, the tables, predictions.csv, demo.json (plan, floors, checks) and seconds.json (the
/// longest time that each stage took). What is done already is not done again. Returns an exit
/// code: kStopped if the training was interrupted, then the same call goes on. Throws Error as the
/// stages do.
int run_demo_plan(const DemoPlan& plan);

/// One statement that the demo makes, with the figures that it rests on.
struct DemoCheck {
  std::string statement;
  bool holds = false;
  std::string figures;
};

/// The statements of the demo: each model near its floor, both below the baselines, audio ahead
/// over all data, the order turned round in the planted genre. `full` holds the floors to the
/// narrow bounds that only the full plan reaches.
std::vector<DemoCheck> demo_checks(const data::DataSet& data,
                                   const std::vector<ModelResult>& results, const Floors& floors,
                                   bool full);

}  // namespace onpa::apps
