// Checkpoints: a folder `step_00001200/` of safetensors and JSON files with MANIFEST.json (size and
// xxh3-64 of each) written last, put in place by one rename. A reader sees a whole one or none.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tensor/io/safetensors.h"

namespace onpa::nn {

struct CheckpointContent {
  std::int64_t step = 0;
  std::map<std::string, io::NamedTensors> tensors;  // "model", "optim", "swa" -> *.safetensors
  std::map<std::string, std::map<std::string, std::string>> metadata;  // of those files
  std::map<std::string, std::string> text;                             // "state.json" -> text
};

/// Writes RUN/checkpoints/step_%08d and repoints the symlink `last`; keeps the newest `keep` (and
/// what `best` points to). The folder appears by rename after every file and folder is synced.
/// Throws Error (kIo, kCannotCreate; kDiverged if a tensor is not finite); older checkpoints stay
/// valid whatever happens.
std::filesystem::path save_checkpoint(const std::filesystem::path& checkpoints,
                                      const CheckpointContent& content, int keep);
/// Points `best` at an existing checkpoint, atomically. find_checkpoint() never follows it.
void mark_best(const std::filesystem::path& checkpoints, std::int64_t step);

/// Points `last` at the checkpoint of step `last`, and `best` at that of step `best` if it is
/// there, where they do not point already, and removes temporaries: a save that was killed may have
/// left them behind. For the one process that saves to this folder. Throws Error (kIo).
void restore_links(const std::filesystem::path& checkpoints, std::int64_t last, std::int64_t best);

/// Reads and verifies one. Throws Error (kBadCheckpoint) naming the file that is missing, of
/// another size or hash.
CheckpointContent load_checkpoint(const std::filesystem::path& folder);

/// The newest checkpoint that verifies and whose tensors are all finite; `skipped` lists the
/// folders passed over, with reasons. Nothing if there is none.
struct FoundCheckpoint {
  std::filesystem::path folder;
  CheckpointContent content;
};
std::optional<FoundCheckpoint> find_checkpoint(const std::filesystem::path& checkpoints,
                                               std::vector<std::string>& skipped);

}  // namespace onpa::nn
