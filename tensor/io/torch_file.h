// Files of torch.save, read without Python: a zip archive of stored entries (a pickle and one entry
// a storage), or before torch 1.6 pickles and storages one after the other. Source: what torch
// writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/io/pickle.h"
#include "tensor/tensor.h"

namespace onpa::io {

/// The storages of a file: named runs of bytes.
class TorchStorages {
 public:
  virtual ~TorchStorages() = default;
  /// Bytes of a storage, -1 if there is none of that key.
  virtual std::int64_t bytes(const std::string& key) const = 0;
  /// All of them; `out` has bytes(key).
  virtual void read(const std::string& key, std::span<std::byte> out) const = 0;
  virtual std::uint64_t total_bytes() const = 0;
};

struct TorchFile {
  std::string name;       // for messages
  std::string container;  // "torch zip" (", without checksums"), "torch before 1.6"
  bool big_endian = false;
  std::map<std::string, std::string> metadata = {};  // of write_torch_file()
  Pickle content = {};
  std::shared_ptr<const TorchStorages> storages = nullptr;
};

/// Reads the pickle and checks, before memory is taken for any, that each storage is in the file
/// with the size that it has in the pickle, and that each tensor lies inside of its storage.
/// Throws Error (kBadCheckpoint): an archive or pickle that is cut short, damaged or malformed,
/// entries that are compressed, encrypted or there twice, what parse_pickle() refuses, programs of
/// TorchScript. `bytes` must outlive the result.
TorchFile read_torch_file(std::span<const std::byte> bytes, const std::string& name);
TorchFile read_torch_file(const std::filesystem::path& path);

/// Shape of a tensor of `file`. Throws Error (kBadCheckpoint) if it has more axes than Shape holds.
Shape shape_of(const TorchFile& file, PickleRef tensor);
StorageType type_of(const TorchFile& file, PickleRef tensor);

/// The values of floating-point tensors as f32, row-major. Throws Error (kBadCheckpoint) if a
/// storage is damaged (checksum), and if the tensors together want more than four times the bytes
/// of all storages, as ones that repeat or overlap each other could.
std::vector<Tensor> read_tensors(const TorchFile& file, std::span<const PickleRef> tensors);

}  // namespace onpa::io
