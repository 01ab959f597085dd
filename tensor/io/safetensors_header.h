// The JSON header of a safetensors file, checked as text: what it says about the data is checked
// against the file by read_safetensors().
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/shape.h"

namespace onpa::io {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;                 // as in the file: "F32"
  std::vector<std::int64_t> shape;   // each extent >= 0
  std::uint64_t begin = 0, end = 0;  // bytes from the start of the data
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of the text
  std::map<std::string, std::string> metadata;
};

/// Parses without building a JSON tree. Throws Error (kBadCheckpoint), the message without the
/// file's name: not JSON, depth, duplicate or unknown keys, missing fields, values of a wrong type.
SafetensorsHeader parse_safetensors_header(std::string_view text);

/// The text for `header`, padded with spaces to a multiple of 8 bytes.
std::string format_safetensors_header(const SafetensorsHeader& header);

}  // namespace onpa::io
