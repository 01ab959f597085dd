#include "apps/commands/commands.h"
#include "apps/study/trainer.h"

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
  return train(options);
}

}  // namespace onpa::apps
