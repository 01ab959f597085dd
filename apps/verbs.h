// The verbs of onpa and their options, as CLI11 has them.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <vector>

#include "apps/benchmark/bench.h"
#include "apps/commands/commands.h"
#include "apps/commands/study.h"
#include "apps/inference/explain.h"

namespace onpa::apps {

/// What the command line says, of whichever verb it names.
struct AllArgs {
  PrepareArgs prepare;
  TrainArgs train;
  EvalArgs eval;
  PredictArgs predict;
  EmbedArgs embed;
  ConvertArgs convert;
  ExplainArgs explain;
  MelArgs mel;
  InspectArgs inspect;
  BenchArgs bench;
  EnvArgs env;
  DemoArgs demo;
  ReportArgs report;
  StudyArgs study;
};

struct Verb {
  CLI::App* app;
  std::function<int()> run;
  bool survives_closed_output = false;  // a reader that goes away must not end a training run
};

/// Adds all verbs to `root`; parsing it fills `args`, which must outlive it and the verbs.
std::vector<Verb> add_verbs(CLI::App& root, AllArgs& args);

}  // namespace onpa::apps
