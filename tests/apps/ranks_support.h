// Runs of several ranks, and what came of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "dist/tcp/socket.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/run_command.h"
#include "tests/apps/train_support.h"

namespace onpa::testing {

/// Tensors of a file of a run's newest checkpoint, by name.
inline std::map<std::string, std::vector<float>> last_tensors(const std::filesystem::path& run,
                                                              const std::string& file = "model") {
  std::map<std::string, std::vector<float>> out;
  const auto path = run / "checkpoints" / "last" / (file + ".safetensors");
  for (const auto& [name, tensor] : io::read_safetensors(path).tensors) {
    out[name] = tensor.to_vector<float>();
  }
  return out;
}

/// The largest difference of two runs' weights; infinity if they have not the same tensors.
inline double weight_difference(const std::filesystem::path& a, const std::filesystem::path& b,
                                const std::string& file = "model") {
  const auto left = last_tensors(a, file), right = last_tensors(b, file);
  if (left.empty() || left.size() != right.size()) return HUGE_VAL;
  double most = 0;
  for (const auto& [name, values] : left) {
    const auto found = right.find(name);
    if (found == right.end() || found->second.size() != values.size()) return HUGE_VAL;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double d = std::abs(static_cast<double>(values[i]) - found->second[i]);
      most = std::isnan(d) ? HUGE_VAL : std::max(most, d);
    }
  }
  return most;
}

/// mpirun's own words; a job of a test ends within a minute, whatever happens. Open MPI keeps
/// memory to its end, which is no leak of onpa's.
inline std::vector<std::string> mpi_words(int ranks) {
  return {"--oversubscribe",
          "--allow-run-as-root",
          "--bind-to",
          "none",
          "--timeout",
          "60",
          "-x",
          "ASAN_OPTIONS=detect_leaks=0",
          "-np",
          std::to_string(ranks)};
}

/// The step of a run's newest checkpoint.
inline int last_step(const std::filesystem::path& run) {
  const std::string folder = std::filesystem::read_symlink(run / "checkpoints/last").filename();
  return std::stoi(folder.substr(folder.find('_') + 1));
}

/// `size` processes of a program that are ranks of one job over TCP; a single one is told nothing
/// of ranks.
inline std::list<Command> start_ranks(const std::string& program, int size,
                                      const std::vector<std::string>& args) {
  const int port = dist::tcp::port_of(dist::tcp::listen_at(0));
  std::list<Command> commands;
  for (int rank = 0; rank < size; ++rank) {
    std::map<std::string, std::string> env;
    if (size > 1) {
      env.insert({{"RANK", std::to_string(rank)},
                  {"WORLD_SIZE", std::to_string(size)},
                  {"MASTER_ADDR", "127.0.0.1"},
                  {"MASTER_PORT", std::to_string(port)}});
    }
    commands.emplace_back(program, args, env);
  }
  return commands;
}

inline std::vector<CommandResult> ends_of(std::list<Command>& commands) {
  std::vector<CommandResult> results;
  for (Command& command : commands) results.push_back(command.wait());
  return results;
}

/// Settings of a small PaSST on clips of 0.4 s, everything random on. optim.eps lies above the
/// rounding of gradients: AdamW would else make whole steps of it where a gradient is 0 but for
/// rounding, as that of a key's bias is.
inline std::vector<std::string> small_passt(const std::vector<std::string>& more = {}) {
  std::vector<std::string> set = {"model.preset=passt-xs",  "model.depth=2",
                                  "data.seconds=0.4",       "train.epochs=3",
                                  "train.batch_size=8",     "train.log_steps=1",
                                  "train.patchout_time=2",  "train.patchout_freq=1",
                                  "data.wave_mixup=0.5",    "data.mixup_alpha=0.3",
                                  "data.gain_low_db=-3",    "data.gain_high_db=3",
                                  "data.roll_samples=50",   "mel.freq_mask=8",
                                  "mel.time_mask=10",       "mel.fmin_range_hz=10",
                                  "mel.fmax_range_hz=2000", "average.kind=ema",
                                  "average.ema_decay=0.9",  "train.checkpoint_epochs=0",
                                  "optim.eps=1e-3"};
  set.insert(set.end(), more.begin(), more.end());
  return set;
}

/// Of a Dense with dropout.
inline std::vector<std::string> small_dense(const std::vector<std::string>& more = {}) {
  std::vector<std::string> set = {"train.epochs=4",      "train.batch_size=32",
                                  "train.log_steps=1",   "train.checkpoint_epochs=0",
                                  "model.hidden=[16,8]", "model.dropout=0.1",
                                  "average.kind=swa",    "schedule.kind=cosine"};
  set.insert(set.end(), more.begin(), more.end());
  return set;
}

}  // namespace onpa::testing
