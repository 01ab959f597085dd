// The zip archive around a file of torch.save, through libzip.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/io/byte_input.h"
#include "tensor/io/torch_file.h"

namespace onpa::io {

/// Nothing is ever extracted, so names of entries are no more than names.
class TorchZip : public TorchStorages {
 public:
  /// Checks all entries: names, sizes against the file, no compression of what is read. `input`
  /// must outlive this object. Throws Error (kBadCheckpoint) naming the file and the reason.
  explicit TorchZip(const ByteInput& input);
  ~TorchZip() override;

  std::int64_t bytes(const std::string& key) const override;
  void read(const std::string& key, std::span<std::byte> out) const override;
  std::uint64_t total_bytes() const override;

  /// False for an archive that was written without any, which is read as it is.
  bool has_checksums() const;
  /// The pickle, at most `most` bytes.
  std::vector<std::byte> pickle(std::uint64_t most) const;
  /// A short entry beside the pickle, "" if there is none.
  std::string text(const std::string& name, std::uint64_t most) const;
  /// Whether the storages are big-endian, as the entry "byteorder" says; without it they are not.
  bool big_endian() const;

 private:
  struct Archive;
  std::unique_ptr<Archive> archive_;
};

}  // namespace onpa::io
