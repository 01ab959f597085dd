#include "nn/manifest.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "kernels/error.h"

namespace onpa::nn {
namespace {

constexpr std::int64_t kFormat = 1;
constexpr std::size_t kReadBytes = std::size_t{1} << 20;

std::string hash_text(const std::string& text) {
  Xxh3 hash;
  hash.add(text.data(), text.size());
  return hash.digest();
}

[[noreturn]] void refuse(const char* reason) {
  fail(ExitCode::kBadCheckpoint, kManifestName, ": ", reason);
}

// A number with a fraction or an exponent may not fit any integer.
template <class T>
T whole(const nlohmann::json& value) {
  if (!value.is_number_integer()) refuse("not the JSON of a manifest");
  return value.get<T>();
}

}  // namespace

struct Xxh3::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) {
  if (state_->xxh == nullptr) fail(ExitCode::kOutOfMemory, "out of memory for a hash");
  XXH3_64bits_reset(state_->xxh);
}
Xxh3::~Xxh3() = default;

void Xxh3::add(const void* data, std::size_t bytes) {
  XXH3_64bits_update(state_->xxh, data, bytes);
}

std::string Xxh3::digest() const {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits_digest(state_->xxh)));
  return text.data();
}

std::string format_manifest(const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["step"] = manifest.step;
  json["files"] = nlohmann::ordered_json::object();
  for (const auto& [name, file] : manifest.files) {
    json["files"][name] = {{"bytes", file.bytes}, {"xxh3_64", file.xxh3_64}};
  }
  json["xxh3_64"] = hash_text(json.dump());
  return json.dump(1) + "\n";
}

Manifest parse_manifest(const std::string& text) {
  Manifest manifest;
  try {
    const auto json = nlohmann::json::parse(text);
    if (whole<std::int64_t>(json.at("format")) != kFormat) refuse("another format version");
    manifest.step = whole<std::int64_t>(json.at("step"));
    for (const auto& [name, file] : json.at("files").items()) {
      manifest.files[name] = {whole<std::uint64_t>(file.at("bytes")),
                              file.at("xxh3_64").get<std::string>()};
    }
  } catch (const nlohmann::json::exception&) {
    refuse("not the JSON of a manifest");
  }
  for (const auto& [name, file] : manifest.files) {
    if (!is_plain_name(name)) refuse("a file name that is not plain");
  }
  if (format_manifest(manifest) != text) refuse("damaged: its own hash does not fit");
  return manifest;
}

bool is_plain_name(const std::string& name) {
  if (name.empty() || name.size() > 100 || name.front() == '.' || name == kManifestName) {
    return false;
  }
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

ManifestFile measure_file(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    fail(ExitCode::kBadCheckpoint, path.string(), ": missing");
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (!file) fail(ExitCode::kIo, "cannot open ", path.string(), ": ", std::strerror(errno));
  std::vector<char> buffer(kReadBytes);
  Xxh3 hash;
  ManifestFile out;
  for (;;) {
    const std::size_t bytes = std::fread(buffer.data(), 1, buffer.size(), file.get());
    hash.add(buffer.data(), bytes);
    out.bytes += bytes;
    if (bytes < buffer.size()) break;
  }
  if (std::ferror(file.get())) {
    fail(ExitCode::kIo, "cannot read ", path.string(), ": ", std::strerror(errno));
  }
  out.xxh3_64 = hash.digest();
  return out;
}

}  // namespace onpa::nn
