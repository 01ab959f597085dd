// Files of torch.save before version 1.6: pickles one after the other, then the storages.
#pragma once

#include <map>
#include <string>

#include "tensor/io/byte_input.h"
#include "tensor/io/torch_file.h"

namespace onpa::io {

/// Whether a file begins as these do.
bool is_torch_legacy(const ByteInput& input);

class TorchLegacy : public TorchStorages {
 public:
  /// `input` must outlive this object. Throws Error (kBadCheckpoint) naming the file and the
  /// reason.
  explicit TorchLegacy(const ByteInput& input);

  const Pickle& content() const { return content_; }

  std::int64_t bytes(const std::string& key) const override;
  void read(const std::string& key, std::span<std::byte> out) const override;
  std::uint64_t total_bytes() const override { return total_; }

 private:
  struct Range {
    std::uint64_t offset = 0, bytes = 0;
  };
  const ByteInput& input_;
  Pickle content_;
  std::map<std::string, Range> storages_;
  std::uint64_t total_ = 0;
};

}  // namespace onpa::io
