// Whole files read at once; tensor/io/file.h writes them.
#pragma once

#include <filesystem>
#include <string>

namespace onpa::data {

/// The bytes of a file. Throws Error: kInputMissing if it is not there, kIo if it cannot be read.
std::string read_file(const std::filesystem::path& path);

}  // namespace onpa::data
