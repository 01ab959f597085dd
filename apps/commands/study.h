// The verb `study`: what the command line asked for, apart from the other verbs' so that what they
// are made of need not know it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/commands/commands.h"

namespace onpa::apps {

struct StudyArgs {
  std::string data, out;
  std::string models = "passt,dense";
  std::string genres = "all";  // all | none | names, separated by commas
  std::int64_t min_tracks = 100;
  std::int64_t jobs = 0;  // Dense models at a time; 0: as many as threads
  std::string device = "auto";
  ConfigArgs passt, dense;
  std::string from = "scratch";       // scratch | all-data: what genres start from
  std::string init_from;              // weights that passt starts from; "" for none
  std::string init_set;               // which set of weights of that file; "" for the default
  std::vector<std::string> variants;  // NAME=MODEL:k=v,k=v
  std::optional<std::uint64_t> seed;  // of training and bootstrap; default: the settings', and 1
  int draws = 1000;                   // of the bootstrap
  std::string peers;                  // folder of tools/peers.py; "" for none
  bool no_report = false;
  std::vector<std::string> command;  // as typed
};

/// As the other verbs (commands.h).
int run_study(const StudyArgs& args);

}  // namespace onpa::apps
