// Files opened and read; tensor/io/file.h writes them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace onpa::data {

/// The bytes of a file. Throws Error: kInputMissing if it is not there, kIo if it cannot be read.
std::string read_file(const std::filesystem::path& path);
/// A descriptor of the file, for reading; the caller closes it. Throws Error as read_file.
int open_to_read(const std::filesystem::path& path);
/// 16 hexadecimal digits.
std::string hash_hex(std::uint64_t hash);

}  // namespace onpa::data
