#include "apps/study/cells.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <fstream>
#include <list>
#include <memory>
#include <thread>

#include "apps/support/process.h"
#include "apps/support/stop_signal.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

extern char** environ;

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLastLines = 8;
constexpr std::int64_t kEachPoll = 40;  // between two looks at a child's memory
constexpr std::chrono::milliseconds kPoll{5};

// The environment of this process without what stands for settings: those of a cell are in its
// file, where the command line has had the last word.
std::vector<std::string> child_environment(int threads) {
  Config any;
  std::vector<std::string> prefixes = {"ONPA_THREADS=", std::string(kParentVariable) + "="};
  for (const Setting& setting : settings_of(any)) {
    std::string name = "ONPA_" + setting.key + "=";
    for (char& c : name) c = c == '.' ? '_' : static_cast<char>(std::toupper(c));
    prefixes.push_back(name);
  }
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (std::none_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& p) { return text.starts_with(p); })) {
      out.push_back(text);
    }
  }
  out.push_back("ONPA_THREADS=" + std::to_string(threads));
  out.push_back(std::string(kParentVariable) + "=" + std::to_string(getpid()));
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> last_lines(const fs::path& log) {
  std::ifstream file(log);
  std::deque<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    lines.push_back(line);
    if (lines.size() > kLastLines) lines.pop_front();
  }
  return {lines.begin(), lines.end()};
}

// The most memory that a process has had so far; 0 if it is gone.
std::int64_t peak_of(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoll(line.c_str() + 6, nullptr, 10) << 10;
  }
  return 0;
}

// A process that trains a cell.
class Child {
 public:
  Child(const StudyFolder& folder, const Cell& cell, const std::string& device,
        const GpuEnergy* energy)
      : cell_(cell),
        log_(folder.log(cell)),
        begin_(std::chrono::steady_clock::now()),
        energy_(energy),
        begin_joules_(energy_ != nullptr ? energy_->joules() : std::nullopt) {
    std::vector<std::string> words = {"onpa",
                                      "train",
                                      cell.model,
                                      "--config",
                                      folder.config(cell).string(),
                                      "--data",
                                      cell.data.string(),
                                      "--run",
                                      cell.run.string(),
                                      "--resume",
                                      "auto",
                                      "--device",
                                      device};
    if (!cell.init_from.empty()) {
      words.insert(words.end(), {"--init-from", cell.init_from.string()});
      if (!cell.init_set.empty()) words.insert(words.end(), {"--init-set", cell.init_set});
    }
    std::vector<std::string> variables = child_environment(cell.threads);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log_.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    // In a group of its own: Ctrl-C reaches this process alone, which then asks once.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attributes, 0);
    const int error = posix_spawn(&pid_, "/proc/self/exe", &files, &attributes,
                                  pointers(words).data(), pointers(variables).data());
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
      fail(ExitCode::kIo, "cannot start a process to train ", cell.name, ": ",
           std::strerror(error));
    }
  }
  // What is left when an exception ends the study goes with it.
  ~Child() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  const Cell& cell() const { return cell_; }
  void ask_to_stop() const { kill(pid_, SIGTERM); }
  // Another works beside it: what the GPU takes is not its own alone.
  void share_gpu() { begin_joules_.reset(); }

  std::optional<CellOutcome> ended() {
    // Often at first, as some are done soon.
    if (++polls_ < kEachPoll || polls_ % kEachPoll == 0) peak_ = std::max(peak_, peak_of(pid_));
    int status = 0;
    rusage usage{};
    if (wait4(pid_, &status, WNOHANG, &usage) != pid_) return std::nullopt;
    pid_ = -1;
    CellOutcome out;
    out.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    // The kernel counts what this process had when it started the other as the other's too.
    rusage own{};
    getrusage(RUSAGE_SELF, &own);
    const std::int64_t most = std::int64_t{usage.ru_maxrss} << 10;
    out.peak_memory_bytes = usage.ru_maxrss > own.ru_maxrss ? most : std::min(peak_, most);
    if (begin_joules_) {
      if (const std::optional<double> now = energy_->joules()) {
        out.energy_joules = *now - *begin_joules_;
      }
    }
    if (out.exit_code != 0) out.last_lines = last_lines(log_);
    return out;
  }

 private:
  const Cell& cell_;
  fs::path log_;
  std::chrono::steady_clock::time_point begin_;
  const GpuEnergy* energy_;
  std::optional<double> begin_joules_;
  pid_t pid_ = -1;
  std::int64_t polls_ = 0, peak_ = 0;
};

}  // namespace

bool train_cells(const StudyFolder& folder, const std::vector<const Cell*>& cells, int threads,
                 const std::string& device,
                 const std::function<void(const Cell&, const CellOutcome&)>& done,
                 const GpuEnergy* energy) {
  for (const char* name : {"configs", "logs"}) io::make_folders(folder.root / name);
  std::deque<const Cell*> waiting(cells.begin(), cells.end());
  std::list<Child> running;
  int busy = 0;
  bool asked = false, stopped = false;
  while (!running.empty() || (!waiting.empty() && !asked)) {
    if (!asked && stop_requested() != 0) {
      asked = stopped = true;
      for (const Child& child : running) child.ask_to_stop();
    }
    while (!asked && !waiting.empty() &&
           (running.empty() || busy + waiting.front()->threads <= threads)) {
      const Cell& cell = *waiting.front();
      waiting.pop_front();
      const io::FaultScope faults(io::FileKind::kRun);
      io::make_folders(cell.run.parent_path());
      io::write_file_atomic(folder.config(cell), to_toml(cell.config), false);
      running.emplace_back(folder, cell, device, energy);
      if (running.size() > 1) {
        for (Child& child : running) child.share_gpu();
      }
      busy += cell.threads;
    }
    for (auto child = running.begin(); child != running.end();) {
      const std::optional<CellOutcome> outcome = child->ended();
      if (!outcome) {
        ++child;
        continue;
      }
      busy -= child->cell().threads;
      stopped = stopped || outcome->exit_code == static_cast<int>(ExitCode::kStopped);
      done(child->cell(), *outcome);
      child = running.erase(child);
    }
    if (!running.empty()) std::this_thread::sleep_for(kPoll);
  }
  return !stopped;
}

}  // namespace onpa::apps
