#include "apps/commands/commands.h"
#include "apps/support/outputs.h"
#include "apps/support/stop_signal.h"
#include "apps/training/rank_job.h"
#include "apps/training/trainer.h"
#include "dist/launch.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

TrainOptions options_of(const TrainArgs& args, TrainReport& report) {
  TrainOptions options;
  options.config = load_config(args.model, args.config.file, args.config.set, &options.given);
  options.data = args.data;
  options.run = args.run;
  options.resume = args.resume;
  options.init_from = args.init_from;
  options.init_set = args.init_set;
  options.quiet = args.quiet;
  options.device = args.device;
  options.report = &report;
  if (!args.profile.empty()) {
    options.profile = parse_profile(args.profile);
    const std::int64_t most = options.config.train.max_steps;
    if (most > 0 && options.profile->begin >= most) {
      fail(ExitCode::kUsage, "--profile ", args.profile, ": the run ends after step ", most - 1,
           " (train.max_steps=", most, "); take earlier steps, or train longer");
    }
  }
  return options;
}

// Before there is a report, which is written whatever happens.
void check_report_file(const TrainArgs& args) {
  if (args.report_json.empty()) return;
  for (const char* name : {"config.resolved.toml", "env.json", "bad_tracks.csv", "metrics.jsonl",
                           "lock", "profile.json", "profile.csv"}) {
    require_distinct({{std::string("the run's ") + name, args.run + "/" + name},
                      {"--report-json", args.report_json}});
  }
}

}  // namespace

int run_train(const TrainArgs& args) {
  check_report_file(args);
  TrainReport report(args.report_json);
  return report.around([&] { return train(options_of(args, report)); });
}

// What is wrong with settings or data is said before the ranks join.
int run_train_ranks(const TrainArgs& args) {
  // To the end of the process: a signal is to kill neither ranks that join each other nor a run
  // that is done and has only to say so.
  keep_stop_signals();
  if (!dist::started_as_one_of_several()) return run_train(args);
  check_report_file(args);
  TrainReport report(launched_rank() == 0 ? args.report_json : "");
  return report.around([&] {
    const TrainOptions options = options_of(args, report);
    const data::DataSet data = data::DataSet::load(options.data);
    return run_as_rank([&](Ranks& ranks) {
      return report.noting_failure([&] { return train(options, data, ranks); });
    });
  });
}

}  // namespace onpa::apps
