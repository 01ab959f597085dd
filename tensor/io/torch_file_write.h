// Writing what torch.load(weights_only=True) reads.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "tensor/io/safetensors.h"

namespace onpa::io {

/// Where read_torch_file() finds the metadata that write_torch_file() wrote; torch ignores it.
inline constexpr const char* kTorchMetadataEntry = "extra/onpa.json";

/// An OrderedDict of names and f32 tensors, as torch.save(model.state_dict()) writes it: a zip
/// archive of stored entries, the data of each tensor at a multiple of 64 bytes. Appears by rename.
/// Throws Error: kCannotCreate, kIo; kConfig for 4 GiB or more, or 65000 tensors, which take
/// another form of archive.
void write_torch_file(const std::filesystem::path& path, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace onpa::io
