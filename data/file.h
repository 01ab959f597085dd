// Whole files in and out, for the small set of files that this folder owns.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace onpa::data {

/// The bytes of a file. Throws Error: kInputMissing if it is not there, kIo if it cannot be read.
std::string read_file(const std::filesystem::path& path);

/// A name in the folder of `path` that no other thread or process uses, for a file that is to be
/// renamed to `path` when it is whole. Contains ".tmp-".
std::filesystem::path temporary_beside(const std::filesystem::path& path);

/// Replaces `path` by a file with `bytes`: after a crash at any moment the old or the new content
/// is there, never a part. Without `durable` that holds for a crash of the process only: after a
/// power cut the file may be damaged. Throws Error: kCannotCreate, kIo (disk full), with the old
/// file intact and no temporary left.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes,
                       bool durable = true);

}  // namespace onpa::data
