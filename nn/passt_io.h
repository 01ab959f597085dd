// What a PaSST weight file says about its architecture: from its metadata if onpa wrote it, else
// from the names and shapes of its tensors.
#pragma once

#include <map>
#include <string>

#include "nn/load.h"
#include "nn/passt.h"

namespace onpa::nn {

/// Every field of the config as "passt.FIELD" -> decimal text.
std::map<std::string, std::string> passt_metadata(const PasstConfig& config);

/// The config that a file's tensors fit. Fields that `metadata` gives are taken from there; the
/// others are read off the shapes, with 128 mel bands, heads 64 wide, one stride for both axes,
/// namely the one that gives both tables their lengths. Throws Error (kBadCheckpoint) if a tensor
/// that every PaSST has is missing or has a shape that no config gives, if the stride is ambiguous,
/// or if metadata and shapes disagree.
PasstConfig infer_passt_config(const std::map<std::string, Shape>& shapes,
                               const std::map<std::string, std::string>& metadata = {});
PasstConfig infer_passt_config(const io::SafetensorsFile& file);

}  // namespace onpa::nn
