#include "apps/commands/commands.h"
#include "apps/study/trainer.h"
#include "kernels/error.h"

namespace onpa::apps {

int run_train(const TrainArgs& args) {
  TrainOptions options;
  options.config = load_config(args.model, args.config.file, args.config.set);
  options.data = args.data;
  options.run = args.run;
  options.resume = args.resume;
  options.init_from = args.init_from;
  options.quiet = args.quiet;
  options.device = args.device;
  if (!args.profile.empty()) {
    options.profile = parse_profile(args.profile);
    const std::int64_t most = options.config.train.max_steps;
    if (most > 0 && options.profile->begin >= most) {
      fail(ExitCode::kUsage, "--profile ", args.profile, ": the run ends after step ", most - 1,
           " (train.max_steps=", most, "); take earlier steps, or train longer");
    }
  }
  return train(options);
}

}  // namespace onpa::apps
