// The stages of a study: data sets, training, evaluation, study.json.
#include "apps/study/study.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/report/report.h"
#include "apps/study/study_json.h"
#include "apps/support/log.h"
#include "apps/support/stop_signal.h"
#include "data/file.h"
#include "dist/launch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tensor/device.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Models of features that share a GPU: more only wait for each other.
constexpr std::int64_t kMostOnGpu = 4;

// Keeps a second study out of the folder. The kernel drops the lock with its process.
class StudyLock {
 public:
  explicit StudyLock(const fs::path& folder) {
    const fs::path path = folder / "lock";
    file_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file_ < 0) {
      fail(ExitCode::kCannotCreate, path.string(), ": ", std::strerror(errno));
    }
    if (flock(file_, LOCK_EX | LOCK_NB) != 0) {
      close(file_);
      fail(ExitCode::kCannotCreate, folder.string(), ": another study uses this folder");
    }
  }
  ~StudyLock() { close(file_); }
  StudyLock(const StudyLock&) = delete;
  StudyLock& operator=(const StudyLock&) = delete;

 private:
  int file_ = -1;
};

std::string time_text(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  if (seconds < 5400) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

// The hash of DATA that a genre's data set was made from; empty if there is none.
std::string source_of(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder / "card.json", ignored)) return "";
  const Json card = Json::parse(data::read_file(folder / "card.json"), nullptr, false);
  if (!card.is_object() || !card.contains("study") || !card["study"].is_object()) return "";
  return card["study"].value("data_hash", "");
}

class Study {
 public:
  explicit Study(const StudyArgs& args)
      : args_(args),
        gpu_(use_gpu(args.device)),
        data_(data::DataSet::load(args.data)),
        plan_(plan_study(args, data_)),
        begin_(std::chrono::steady_clock::now()) {
    const int all = kernels::thread_count();
    jobs_ = args.jobs > 0 ? static_cast<int>(args.jobs) : all;
    if (args.jobs == 0 && gpu_) jobs_ = static_cast<int>(std::min<std::int64_t>(all, kMostOnGpu));
    for (Cell& cell : plan_.cells) {
      // All data takes as long as all genres together, if it has a thread of its own.
      if (cell.model == "dense") cell.threads = cell.scope == 0 ? std::max(1, jobs_ / 2) : 1;
      if (cell.model == "passt") cell.threads = all;
    }
  }

  int run() {
    {
      const io::FaultScope faults(io::FileKind::kRun);
      io::make_folders(plan_.folder.root);
    }
    const StudyLock lock(plan_.folder.root);
    for (const std::string& genre : plan_.left_out) spdlog::info("left out: {}", genre);
    check_cells();
    save_genres();
    if (!train()) return stopped();
    StudyJson json(args_, plan_, data_, gpu_, failures_);
    for (std::size_t s = 0; s < plan_.scopes.size(); ++s) {
      if (!evaluate(s, json)) return stopped();
    }
    json.write();
    json.print();
    if (!args_.no_report) write_report(plan_.folder.root);
    for (const CellFailure& failure : failures_) {
      spdlog::error("{} failed with exit code {}; see {}", failure.cell->name, failure.exit_code,
                    plan_.folder.log(*failure.cell).string());
    }
    spdlog::info("{} models compared, {}; all figures are in {}",
                 plan_.cells.size() - failures_.size(), time_text(seconds()),
                 (plan_.folder.root / "study.json").string());
    if (failures_.empty()) return 0;
    spdlog::error("{} of {} models could not be trained; the same command tries them again",
                  failures_.size(), plan_.cells.size());
    return static_cast<int>(ExitCode::kCheckFailed);
  }

 private:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

  int stopped() const {
    spdlog::info("stopped; the same command goes on from there");
    return static_cast<int>(ExitCode::kStopped);
  }

  // `start` is the hash of what a model began with. That of all data's model, which a genre's may
  // begin with, is some other than the given one.
  bool started_as_asked(const Cell& cell, const std::string& start) const {
    const std::string given = cell.model == "passt" ? plan_.start_hash : "";
    if (args_.from == "scratch" || plan_.scopes[cell.scope].all) return start == given;
    return !start.empty() && start != given;
  }

  // A model that is there must be the one that is asked for, before anything is done.
  void check_cells() {
    for (const Cell& cell : plan_.cells) {
      const std::optional<TrainedWith> with = trained_with(plan_.folder, cell);
      if (!with) continue;
      if (with->evaluated) done_.push_back(&cell);
      std::vector<std::string> changed = changed_keys(with->config, cell.config);
      const bool all = plan_.scopes[cell.scope].all;
      if ((all ? with->data_hash : source_of(cell.data)) != data_.hash) changed.push_back("data");
      if (with->start && !started_as_asked(cell, *with->start)) {
        changed.push_back(all ? "--init-from" : "--from or --init-from");
      }
      if (changed.empty()) continue;
      fail(ExitCode::kConfig, cell.name, ": trained already with other settings, in ",
           cell.run.string(), ": ", fmt::format("{}", fmt::join(changed, ", ")),
           "; use another --out, or remove that folder and ", plan_.folder.result(cell).string());
    }
  }

  void save_genres() {
    for (const Scope& scope : plan_.scopes) {
      const fs::path folder = plan_.folder.data(scope.slug);
      if (scope.all || source_of(folder) == data_.hash) continue;
      genre_data(data_, scope).save(folder);
    }
  }

  bool is_done(const Cell& cell) const {
    return std::find(done_.begin(), done_.end(), &cell) != done_.end();
  }

  // What is not there yet; false if asked to stop. Features first, which take little.
  bool train() {
    std::optional<GpuEnergy> energy;
    if (gpu_) energy.emplace(cuda_bus());
    for (const Cell& cell : plan_.cells) {
      if (!is_done(cell)) left_ += cell.work * weight(cell), ++waiting_;
    }
    for (const char* model : {"dense", "passt"}) {
      for (const bool all : {true, false}) {
        std::vector<const Cell*> cells;
        for (const Cell& cell : plan_.cells) {
          const bool now = args_.from == "scratch" ? all : all == plan_.scopes[cell.scope].all;
          if (cell.model == model && now && !is_done(cell)) cells.push_back(&cell);
        }
        std::stable_sort(cells.begin(), cells.end(),
                         [](const Cell* a, const Cell* b) { return a->work > b->work; });
        const int threads = model == std::string("dense") ? jobs_ : kernels::thread_count();
        const bool whole = train_cells(
            plan_.folder, cells, threads, args_.device,
            [&](const Cell& cell, const CellOutcome& outcome) { report(cell, outcome); },
            energy ? &*energy : nullptr);
        if (!whole) return false;
      }
    }
    return true;
  }

  // An epoch of audio takes far longer than one of features; a guess until both have been seen.
  static double weight(const Cell& cell) { return cell.model == "passt" ? 1000 : 1; }

  void report(const Cell& cell, const CellOutcome& outcome) {
    add_cost(plan_.folder, cell, outcome);
    if (outcome.exit_code == static_cast<int>(ExitCode::kStopped)) return;
    const double work = cell.work * weight(cell);
    worked_ += work;
    left_ -= work;
    --waiting_;
    ++finished_;
    if (outcome.exit_code != 0) failures_.push_back({&cell, outcome.exit_code, outcome.last_lines});
    const std::string rest =
        waiting_ == 0 ? ""
                      : fmt::format("; {} left, about {}", waiting_,
                                    time_text(seconds() * left_ / std::max(worked_, 1.0)));
    spdlog::info("[{}/{}] {}: {} in {}{}", finished_, finished_ + waiting_, cell.name,
                 outcome.exit_code == 0
                     ? "trained"
                     : fmt::format("failed with exit code {}", outcome.exit_code),
                 time_text(outcome.seconds), rest);
  }

  bool failed(const Cell& cell) const {
    return std::any_of(failures_.begin(), failures_.end(),
                       [&](const CellFailure& f) { return f.cell == &cell; });
  }

  // One scope's models; false if asked to stop.
  bool evaluate(std::size_t s, StudyJson& json) {
    const Scope& scope = plan_.scopes[s];
    data::DataSet own;
    if (!scope.all) own = genre_data(data_, scope);
    const data::DataSet& data = scope.all ? data_ : own;
    std::vector<std::pair<const Cell*, CellResult>> results;
    for (const Cell& cell : plan_.cells) {
      if (cell.scope != s || failed(cell)) continue;
      std::optional<CellResult> result =
          evaluate_cell(plan_.folder, cell, data, {.device = args_.device});
      if (!result) return false;
      results.emplace_back(&cell, *std::move(result));
    }
    json.add_scope(s, data, results);
    return true;
  }

  const StudyArgs& args_;
  bool gpu_;
  data::DataSet data_;
  StudyPlan plan_;
  std::chrono::steady_clock::time_point begin_;
  int jobs_ = 1;
  std::vector<const Cell*> done_;
  std::vector<CellFailure> failures_;
  double worked_ = 0, left_ = 0;
  std::int64_t finished_ = 0, waiting_ = 0;
};

}  // namespace

int run_study_plan(const StudyArgs& args) {
  if (dist::started_as_one_of_several()) {
    fail(ExitCode::kUsage,
         "study: starts its own processes, so it cannot be one of several ranks; train a large "
         "model first with: mpirun ... onpa train passt --data ",
         args.data, " --run ", (fs::path(args.out) / "runs" / "all-data" / "passt").string(),
         ", and start the study, with the same settings, without mpirun");
  }
  return Study(args).run();
}

}  // namespace onpa::apps
