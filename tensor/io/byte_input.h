// A file, or bytes in memory, read at any place: what readers of untrusted formats are written
// over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace onpa::io {

class ByteInput {
 public:
  /// Opens a regular file. Throws Error: kInputMissing if there is none, kBadCheckpoint if it is
  /// not a regular file.
  explicit ByteInput(const std::filesystem::path& path);
  /// `bytes` must outlive this object; `name` is what errors call them.
  ByteInput(std::span<const std::byte> bytes, std::string name);
  ~ByteInput();
  ByteInput(const ByteInput&) = delete;
  ByteInput& operator=(const ByteInput&) = delete;

  std::uint64_t size() const { return size_; }
  const std::string& name() const { return name_; }
  /// Throws Error: kBadCheckpoint if that is not all there (any more), kIo.
  void read(std::span<std::byte> out, std::uint64_t offset) const;
  /// The first bytes, at most `most`.
  std::string head(std::size_t most) const;

 private:
  std::string name_;
  std::span<const std::byte> bytes_;
  int descriptor_ = -1;  // -1: bytes_
  std::uint64_t size_ = 0;
};

}  // namespace onpa::io
