// MANIFEST.json of a checkpoint folder: size and xxh3-64 of every file, and of itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

namespace onpa::nn {

inline constexpr const char* kManifestName = "MANIFEST.json";

struct ManifestFile {
  std::uint64_t bytes = 0;
  std::string xxh3_64;  // 16 lower-case hexadecimal digits
};

struct Manifest {
  std::int64_t step = 0;
  std::map<std::string, ManifestFile> files;  // plain names, no folders
};

/// The one text that `manifest` has; its last member is the hash of the rest.
std::string format_manifest(const Manifest& manifest);
/// Throws Error (kBadCheckpoint) unless `text` is byte for byte what format_manifest() would write.
Manifest parse_manifest(const std::string& text);

/// Whether a file may be called that: letters, digits, '_', '-' and '.', not first; at most 100.
bool is_plain_name(const std::string& name);

/// Running xxh3-64.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;
  void add(const void* data, std::size_t bytes);
  std::string digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Size and hash of a file. Throws Error (kBadCheckpoint) if it is missing or no regular file, kIo.
ManifestFile measure_file(const std::filesystem::path& path);

}  // namespace onpa::nn
