// What is to be true of files after a write has failed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "apps/support/tfevents.h"
#include "tests/apps/train_support.h"

namespace onpa::testing {

/// Content of every file below `folder`, but of a SmallDisk's filler, by its path there.
inline std::map<std::string, std::string> all_files(const std::filesystem::path& folder) {
  std::map<std::string, std::string> out;
  if (!std::filesystem::exists(folder)) return out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != "filler") {
      out[entry.path().lexically_relative(folder).string()] = read_bytes(entry.path());
    }
  }
  return out;
}

/// Temporary files that a writer has left.
inline std::vector<std::string> leftovers(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  for (const auto& [name, bytes] : all_files(folder)) {
    if (name.find(".tmp-") != std::string::npos) out.push_back(name);
  }
  return out;
}

/// Step and kind of every line of metrics; a line that is none is an error.
inline std::vector<std::string> steps_of(const std::filesystem::path& run) {
  std::vector<std::string> out;
  std::istringstream in(read_bytes(run / "metrics.jsonl"));
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line);
    out.push_back(json["step"].dump() + (json.contains("test_rmse") ? " test" : ""));
  }
  return out;
}

/// Records in the event files of a run, or -1 if one of them does not end with a whole record.
inline int event_records(const std::filesystem::path& run) {
  int count = 0;
  for (const auto& [name, bytes] : all_files(run)) {
    if (!name.starts_with("events.out.")) continue;
    std::size_t at = 0;
    while (at < bytes.size()) {
      std::uint64_t length = 0;
      if (at + 12 > bytes.size()) return -1;
      std::memcpy(&length, bytes.data() + at, sizeof length);
      if (at + 16 + length > bytes.size()) return -1;
      const std::string payload = bytes.substr(at + 12, length);
      if (apps::event_record(payload) != bytes.substr(at, 16 + length)) return -1;
      at += 16 + length;
      ++count;
    }
  }
  return count;
}

/// Weights, averages and moments of the last checkpoints agree.
inline void expect_same_bits(const std::filesystem::path& a, const std::filesystem::path& b) {
  for (const char* file : {"model", "optim", "swa"}) {
    const std::string name = std::string("checkpoints/last/") + file + ".safetensors";
    const std::string bytes = read_bytes(a / name);
    EXPECT_TRUE(!bytes.empty() && bytes == read_bytes(b / name)) << b << " " << file;
  }
}

/// So do the steps in the metrics.
inline void expect_same_run(const std::filesystem::path& a, const std::filesystem::path& b) {
  expect_same_bits(a, b);
  EXPECT_EQ(steps_of(a), steps_of(b));
}

inline bool says(const CommandResult& result, const std::string& text) {
  return result.err.find(text) != std::string::npos;
}

/// 320 train rows in batches of 32: ten steps an epoch, all of them logged.
inline std::vector<std::string> dense_args(const std::filesystem::path& data,
                                           const std::filesystem::path& run,
                                           const std::vector<std::string>& more = {}) {
  std::vector<std::string> set = {
      "train.epochs=4",      "train.batch_size=32", "train.log_steps=1", "train.checkpoint_steps=7",
      "model.hidden=[16,8]", "model.dropout=0.1",   "average.kind=swa",  "schedule.kind=cosine"};
  set.insert(set.end(), more.begin(), more.end());
  return train_args("dense", data, run, set);
}

/// Six steps on 32 clips of 0.4 s.
inline std::vector<std::string> passt_args(const std::filesystem::path& data,
                                           const std::filesystem::path& run,
                                           const std::vector<std::string>& more = {}) {
  std::vector<std::string> set = {
      "model.preset=passt-xs",   "data.seconds=0.4",          "train.epochs=2",
      "train.max_steps=6",       "train.batch_size=8",        "train.log_steps=1",
      "train.eval_epochs=0",     "train.checkpoint_epochs=0", "train.patchout_time=2",
      "train.patchout_freq=1",   "average.kind=ema",          "average.ema_decay=0.9",
      "train.checkpoint_steps=2"};
  set.insert(set.end(), more.begin(), more.end());
  return train_args("passt", data, run, set);
}

}  // namespace onpa::testing
