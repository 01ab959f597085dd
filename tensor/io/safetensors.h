// safetensors files: a JSON header and raw little-endian data.
// Source: https://github.com/huggingface/safetensors (format).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensor/io/file.h"
#include "tensor/tensor.h"

namespace onpa::io {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

struct SafetensorsFile {
  NamedTensors tensors;  // F32, F64, I32, I64 as they are; F16 and BF16 widened to f32
  std::map<std::string, std::string> metadata;
  std::vector<std::string> types = {};  // of the tensors as they are stored: "f32", "bf16", ...
  /// The tensor of that name, undefined if there is none.
  Tensor find(const std::string& name) const;
};

/// Reads a whole file. Everything in the header is checked before it is used: length, JSON depth,
/// duplicate names, dtypes, shapes against byte ranges, overlaps and holes. Throws Error
/// (kBadCheckpoint) naming file, tensor and reason; kInputMissing if there is no file. `tap`, if
/// given, sees every byte of the file once, from the first to the last.
SafetensorsFile read_safetensors(const std::filesystem::path& path,
                                 const FileWriter::Tap& tap = nullptr);

/// Writes f32, f64, i32 and i64 tensors; the widest types come first, so that all data is aligned.
/// Every write is checked, the file is synced and appears by rename. Throws Error (kCannotCreate,
/// kIo).
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// The same into an open file; the caller finishes it.
void write_safetensors(FileWriter& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata);
/// Bytes that the file will have.
std::uint64_t safetensors_bytes(const NamedTensors& tensors,
                                const std::map<std::string, std::string>& metadata);

}  // namespace onpa::io
