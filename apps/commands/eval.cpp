#include <fmt/core.h>

#include <exception>
#include <map>

#include "apps/commands/commands.h"
#include "apps/inference/predictor.h"
#include "apps/study/evaluate.h"
#include "apps/study/tables.h"
#include "apps/support/log.h"
#include "apps/training/train_state.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

// The data set that a run was trained on, as its newest checkpoint tells.
std::string data_of(const std::string& run) {
  const nn::FoundCheckpoint found = open_checkpoint(run);
  const auto state = found.content.text.find("state.json");
  if (state == found.content.text.end()) {
    fail(ExitCode::kBadCheckpoint, found.folder.string(), ": no state.json");
  }
  return TrainState::from_json(state->second).data;
}

// Tables are keyed by model, so two runs of one kind go by their folders too.
void label_by_run(const std::vector<std::string>& runs, std::vector<ModelResult>& results) {
  std::map<std::string, int> kinds;
  for (const ModelResult& result : results) ++kinds[result.model];
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (kinds[results[i].model] > 1) results[i].model += " " + runs[i];
  }
}

}  // namespace

int run_eval(const EvalArgs& args) {
  const std::string folder = args.data.empty() ? data_of(args.runs.front()) : args.data;
  const data::DataSet data = data::DataSet::load(folder);
  std::vector<ModelResult> results;
  for (const std::string& run : args.runs) {
    results.push_back(evaluate_run(run, data, args.batch_size, args.compute));
    spdlog::info("{}: {} test tracks predicted", run, results.back().predictions.size());
  }
  label_by_run(args.runs, results);
  const Table1 table1 = make_table1(data, results);
  const Table2 table2 = make_table2(data, results);
  const std::filesystem::path out = args.out.empty() ? args.runs.front() : args.out;
  // Whichever of files and output fails, the other has the result of the work.
  std::exception_ptr unwritten;
  try {
    write_results(out, data, results, table1, table2);
  } catch (const Error&) {
    unwritten = std::current_exception();
  }
  fmt::print("{}", table_text(table1));
  if (args.by == "genre") fmt::print("\n{}", table_text(table2));
  if (unwritten) std::rethrow_exception(unwritten);
  return 0;
}

}  // namespace onpa::apps
