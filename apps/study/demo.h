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
  CorpusOptions corpus;
  std::vector<std::string> dense_settings, passt_settings;  // "section.key=value"
};

/// The small plan takes about two minutes on two cores; the full one is large enough to bring both
/// models near their floors. With `full`, the default folder becomes "demo-full".
DemoPlan demo_plan(const DemoArgs& args);

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
