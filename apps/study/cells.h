// The models of a study, each trained by a process of its own: this program with `train`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/support/config.h"
#include "apps/support/gpu_energy.h"

namespace onpa::apps {

/// One model to train on one scope.
struct Cell {
  std::size_t scope = 0;              // which of the study's
  std::string model;                  // passt | dense
  std::string variant;                // its name; empty for a plain cell
  std::vector<std::string> settings;  // of a variant, beyond those of the plain cell
  std::string name;                   // for people: "dense, acoustic"
  std::string key;                    // in file names: "acoustic_dense"
  Config config;
  std::filesystem::path data, run;
  std::filesystem::path init_from;  // weights or a run that it starts from; empty: none
  std::string init_set;             // which set of that file's weights; empty: the default
  double work = 0;                  // samples to learn from
  int threads = 1;
};

/// How the process that trained a cell ended, and what it took.
struct CellOutcome {
  int exit_code = 0;  // or 128 + signal
  double seconds = 0;
  std::int64_t peak_memory_bytes = 0;   // 0: not known
  std::optional<double> energy_joules;  // of the GPU, where nothing else ran there meanwhile
  std::vector<std::string> last_lines;  // of its log
};

/// Where the files of cells are, below the folder of a study.
struct StudyFolder {
  std::filesystem::path root;
  std::filesystem::path data(const std::string& slug) const { return root / "data" / slug; }
  std::filesystem::path run(const std::string& slug, const std::string& model) const {
    return root / "runs" / slug / model;
  }
  std::filesystem::path config(const Cell& cell) const {
    return root / "configs" / (cell.key + ".toml");
  }
  std::filesystem::path log(const Cell& cell) const { return root / "logs" / (cell.key + ".log"); }
  std::filesystem::path cost(const Cell& cell) const {
    return root / "logs" / (cell.key + ".json");
  }
  std::filesystem::path result(const Cell& cell) const {
    return root / "results" / (cell.key + ".json");
  }
  std::filesystem::path predictions(const Cell& cell) const {
    return root / "results" / (cell.key + ".csv");
  }
};

/// Trains cells, in their order, as many at a time as fit into `threads`; the others wait. Their
/// output goes to their logs. `done` is called after each, from this thread. When this process is
/// asked to stop, those that run are too, and have saved a checkpoint when this returns; what did
/// not run is not `done`. If this process dies, they die. Returns false if it, or one of them, was
/// asked to stop. `energy`, if given, is of the GPU that they work on. Throws Error (kIo,
/// kCannotCreate) if a process cannot be started.
bool train_cells(const StudyFolder& folder, const std::vector<const Cell*>& cells, int threads,
                 const std::string& device,
                 const std::function<void(const Cell&, const CellOutcome&)>& done,
                 const GpuEnergy* energy = nullptr);

}  // namespace onpa::apps
