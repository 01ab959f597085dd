// The stages of the demo, from nothing to the tables.
#include "apps/study/demo.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/commands/commands.h"
#include "apps/study/prepare.h"
#include "data/file.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::ordered_json;

// To stderr. A log that cannot be written must not stop the work.
template <class... Values>
void say(fmt::format_string<Values...> format, Values&&... values) {
  const std::string text = fmt::format(format, std::forward<Values>(values)...);
  if (std::fwrite(text.data(), 1, text.size(), stderr) < text.size()) std::clearerr(stderr);
}

// Announces the stages of the demo and keeps the longest time that each took: a later run finds the
// work done.
class Stages {
 public:
  Stages(std::filesystem::path file, int count) : file_(std::move(file)), count_(count) {
    if (std::filesystem::exists(file_))
      seconds_ = Json::parse(data::read_file(file_), nullptr, false);
    if (!seconds_.is_object()) seconds_ = Json::object();
  }

  template <class Work>
  int run(const std::string& name, const Work& work) {
    ++done_;
    say("[{}/{}] {}\n", done_, count_, name);
    const auto start = std::chrono::steady_clock::now();
    const int code = work();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    seconds_[name] = std::max(took.count(), seconds_.value(name, 0.0));
    const io::FaultScope faults(io::FileKind::kDemo);
    io::write_file_atomic(file_, seconds_.dump(2) + "\n");
    say("[{}/{}] {}: {:.1f} s\n", done_, count_, name, took.count());
    return code;
  }

  const Json& seconds() const { return seconds_; }

 private:
  std::filesystem::path file_;
  int count_, done_ = 0;
  Json seconds_;
};

// One redrawn line on a terminal, else a line every tenth.
class CorpusProgress {
 public:
  void operator()(std::int64_t done, std::int64_t total) {
    const std::int64_t part = (terminal_ ? 200 : 10) * done / total;
    if (part == shown_) return;
    shown_ = part;
    say("{}  {} of {} clips{}", terminal_ ? "\r" : "", done, total,
        terminal_ && done < total ? "" : "\n");
    std::fflush(stderr);
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::int64_t shown_ = 0;
};

int prepare_corpus(const DemoPlan& plan) {
  const std::filesystem::path corpus = plan.folder / "corpus";
  PrepareArgs args;
  args.csv = (corpus / "tracks.csv").string();
  args.audio = (corpus / "audio").string();
  args.out = (plan.folder / "data").string();
  args.seed = plan.corpus.seed;
  return run_prepare(args);
}

int train_model(const DemoPlan& plan, const std::string& model) {
  TrainArgs args;
  args.model = model;
  args.data = (plan.folder / "data").string();
  args.run = (plan.folder / "runs" / model).string();
  args.config.set = model == "dense" ? plan.dense_settings : plan.passt_settings;
  return run_train(args);
}

void print_report(const DemoPlan& plan, const Table1& table1, const Table2& table2,
                  const Floors& floors, const std::vector<DemoCheck>& checks) {
  fmt::print("\n{}\n{}\n", table_text(table1), table_text(table2));
  fmt::print(
      "{} is the planted genre: its hidden timbre is constant and its clips lie under\n"
      "surface noise, so the features tell more about it than the audio does.\n\n",
      kPlantedGenre);
  fmt::print(
      "Lowest possible RMSE: {:.4f} from the features, {:.4f} from the audio\n"
      "({:.4f} and {:.4f} on these {} test tracks).\n\n",
      analytic_floors().dense_rmse, analytic_floors().passt_rmse, floors.dense_rmse,
      floors.passt_rmse, floors.n);
  for (const DemoCheck& check : checks) {
    if (check.checked) {
      fmt::print("{}  {}\n     {}\n", check.holds ? "yes" : "NO ", check.statement, check.figures);
    } else {
      fmt::print("~    expected, not checked at this size ({}): {}\n     {}\n",
                 check.holds ? "it holds here" : "it does not hold here", check.statement,
                 check.figures);
    }
  }
  fmt::print("\nSeed {}, {} clips of {} s. Everything is in {}.\n", plan.corpus.seed,
             plan.corpus.tracks, plan.corpus.seconds, plan.folder.string());
}

void write_report(const DemoPlan& plan, const Floors& floors, const std::vector<DemoCheck>& checks,
                  const Json& seconds) {
  Json list = Json::array();
  for (const DemoCheck& check : checks) {
    list.push_back({{"statement", check.statement},
                    {"checked", check.checked},
                    {"holds", check.holds},
                    {"figures", check.figures}});
  }
  const Json json = {{"full", plan.full},
                     {"seed", plan.corpus.seed},
                     {"tracks", plan.corpus.tracks},
                     {"clip_seconds", plan.corpus.seconds},
                     {"dense_settings", plan.dense_settings},
                     {"passt_settings", plan.passt_settings},
                     {"test_floors",
                      {{"n", floors.n},
                       {"dense", {{"rmse", floors.dense_rmse}, {"mae", floors.dense_mae}}},
                       {"passt", {{"rmse", floors.passt_rmse}, {"mae", floors.passt_mae}}}}},
                     {"checks", list},
                     {"seconds", seconds}};
  const io::FaultScope faults(io::FileKind::kDemo);
  io::write_file_atomic(plan.folder / "demo.json",
                        json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// Names on stderr what does not hold, for a caller that reads the exit code alone.
ExitCode verdict(const std::vector<DemoCheck>& checks) {
  std::fflush(stdout);
  std::size_t checked = 0;
  std::vector<const DemoCheck*> failed;
  for (const DemoCheck& check : checks) {
    if (!check.checked) continue;
    ++checked;
    if (!check.holds) failed.push_back(&check);
  }
  if (failed.empty()) return ExitCode::kOk;
  say("onpa: {} of {} checks of the demo failed:\n", failed.size(), checked);
  for (const DemoCheck* check : failed) {
    say("  {} ({})\n", check->statement, check->figures);
  }
  return ExitCode::kCheckFailed;
}

}  // namespace

int run_demo_plan(const DemoPlan& plan) {
  {
    const io::FaultScope faults(io::FileKind::kDemo);
    io::make_folders(plan.folder);
  }
  const std::filesystem::path corpus = plan.folder / "corpus";
  Stages stages(plan.folder / "seconds.json", 5);
  stages.run("render the corpus", [&] {
    if (!make_corpus(corpus, plan.corpus, CorpusProgress())) {
      say("  {} clips are there already\n", plan.corpus.tracks);
    }
    return 0;
  });
  stages.run("prepare the data set", [&] { return prepare_corpus(plan); });
  for (const char* model : {"dense", "passt"}) {
    const int code =
        stages.run(std::string("train ") + model, [&] { return train_model(plan, model); });
    if (code != 0) return code;
  }
  const data::DataSet data = data::DataSet::load(plan.folder / "data");
  std::vector<ModelResult> results;
  stages.run("evaluate", [&] {
    for (const char* model : {"passt", "dense"}) {
      results.push_back(evaluate_run(plan.folder / "runs" / model, data));
    }
    return 0;
  });
  const Floors floors = test_floors(corpus, data);
  const Table1 table1 =
      make_table1(data, results, {analytic_floors().passt_rmse, analytic_floors().dense_rmse});
  const Table2 table2 = make_table2(data, results);
  const std::vector<DemoCheck> checks = demo_checks(data, results, floors, plan.bounds);
  // Whichever of files and output fails, the other has the result of the work.
  std::exception_ptr unwritten;
  try {
    write_results(plan.folder, data, results, table1, table2);
    write_report(plan, floors, checks, stages.seconds());
  } catch (const Error&) {
    unwritten = std::current_exception();
  }
  print_report(plan, table1, table2, floors, checks);
  const ExitCode code = verdict(checks);
  if (unwritten) std::rethrow_exception(unwritten);
  return static_cast<int>(code);
}

}  // namespace onpa::apps
