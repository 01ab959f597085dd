#include <fmt/core.h>

#include <exception>
#include <vector>

#include "apps/benchmark/bench_report.h"
#include "apps/commands/commands.h"
#include "apps/support/log.h"
#include "apps/support/outputs.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

// Both or, if it throws, none.
void write_files(const BenchArgs& args, const BenchResult& result) {
  const io::FaultScope faults(io::FileKind::kRun);
  std::vector<io::StagedFile> files;
  if (!args.json.empty()) files.emplace_back(args.json, bench_json(result));
  if (!args.trace.empty()) files.emplace_back(args.trace, profile_trace(result.profile));
  for (io::StagedFile& file : files) file.commit();
  if (!args.trace.empty()) {
    spdlog::info("{} opens in chrome://tracing and ui.perfetto.dev", args.trace);
  }
}

}  // namespace

int run_bench(const BenchArgs& args) {
  if (args.model == "comm") return run_bench_comm(args);
  BenchOptions options;
  options.config = load_config(args.model, args.config.file, args.config.set);
  if (!args.precision.empty()) options.config.train.precision = args.precision;
  options.training = args.what == "train";
  options.device = args.device;
  options.steps = args.steps;
  options.warmup = args.warmup;
  require_distinct({{"--json", args.json}, {"--trace", args.trace}});
  for (const std::string& file : {args.json, args.trace}) {
    if (!file.empty()) io::require_room(file, 0);  // now, rather than after the steps
  }
  const BenchResult result = bench(options);
  // Whichever of files and output fails, the other has the result of the work.
  std::exception_ptr unwritten;
  try {
    write_files(args, result);
  } catch (const Error&) {
    unwritten = std::current_exception();
  }
  fmt::print("{}", bench_text(result));
  if (unwritten) std::rethrow_exception(unwritten);
  return 0;
}

}  // namespace onpa::apps
