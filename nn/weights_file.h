// Weights from any file that holds some: safetensors, or what torch.save wrote.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensor/io/safetensors.h"

namespace onpa::nn {

struct WeightsFile {
  io::NamedTensors tensors;  // f32, in the order of the file; names without "net.", "module.", ...
  std::map<std::string, std::string> metadata = {};  // of a safetensors file, or a .pt of onpa
  std::filesystem::path source = {};                 // the file, or a checkpoint's folder
  std::string container = {};          // "safetensors", "torch zip", "checkpoint", ...
  std::string set = {};                // which weights of the file; "" has no name
  std::vector<std::string> sets = {};  // all that it has
  std::string precision = {};  // as the file stores them: "f32", "f16", "bf16", "f64" or "mixed"
  std::vector<std::string> others = {};  // what was passed over: "optimizer_states", a counter, ...
};

/// Reads a safetensors file or one of torch.save, whatever its name says. Of the latter: a plain
/// state dict, one under "model" (as DeiT's) or "state_dict" (Lightning), whose names may begin
/// with "net.", "net_swa.", "model.", "module." and "_orig_mod.", in any order. A file with several
/// sets of weights gives the one called `set` (by its name or set_label()), by default "net_swa"
/// (averaged weights), else "net", else the one without a name, else "model". Integers (counters)
/// are passed over. Throws Error: kInputMissing; kBadCheckpoint saying what was found in place of
/// weights and what to do: a download that was cut off, a web page, a Git LFS pointer, a
/// TorchScript program, an optimizer's state, no such set; what read_safetensors() and
/// read_torch_file() refuse.
WeightsFile read_weights(const std::filesystem::path& path, const std::string& set = "");
/// The same from the bytes of a file of torch.save.
WeightsFile read_torch_weights(std::span<const std::byte> bytes, const std::string& name,
                               const std::string& set = "");

/// A set's name for a person: "net_swa", or "without a name". All of a file's: "net, net_swa".
std::string set_label(const std::string& set);
std::string set_labels(const WeightsFile& file);

}  // namespace onpa::nn
