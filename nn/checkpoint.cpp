#include "nn/checkpoint.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <utility>

#include "nn/load.h"
#include "nn/manifest.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::nn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTensorSuffix = ".safetensors";
constexpr const char* kFolderPrefix = "step_";
constexpr const char* kTemporaryPrefix = ".tmp-";
// Beside the files themselves: the manifest, folders, links, rounding to blocks.
constexpr std::uint64_t kReserveBytes = std::uint64_t{1} << 20;

std::string folder_name(std::int64_t step) {
  char text[32];
  std::snprintf(text, sizeof text, "step_%08lld", static_cast<long long>(step));
  return text;
}

// The step of a folder called as folder_name() calls it, else nothing.
std::optional<std::int64_t> step_of(const std::string& name) {
  const std::string_view prefix = kFolderPrefix;
  if (!name.starts_with(prefix) || name.size() > prefix.size() + 18) return std::nullopt;
  std::int64_t step = 0;
  for (const char c : name.substr(prefix.size())) {
    if (c < '0' || c > '9') return std::nullopt;
    step = step * 10 + (c - '0');
  }
  return folder_name(step) == name ? std::optional(step) : std::nullopt;
}

// All checkpoints there, newest first, whole or not.
std::vector<std::int64_t> list_steps(const fs::path& checkpoints) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (fs::directory_iterator it(checkpoints, error), end; !error && it != end;
       it.increment(error)) {
    const auto step = step_of(it->path().filename().string());
    std::error_code unreadable;
    if (step && fs::is_directory(it->symlink_status(unreadable))) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

// Clearing away is never worth a run: what cannot be removed stays, unseen by readers.
void remove_quietly(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  // What the system refuses for a moment, such as a descriptor, it may have now.
  if (error) fs::remove_all(path, error);
}

// What a save that was killed has left. One process at a time saves to a folder.
void remove_leftovers(const fs::path& checkpoints) {
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (fs::directory_iterator it(checkpoints, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().starts_with(kTemporaryPrefix)) {
      leftovers.push_back(it->path());
    }
  }
  for (const fs::path& path : leftovers) remove_quietly(path);
}

// Name of the first tensor with NaN or infinity, empty if there is none.
std::string first_not_finite(const CheckpointContent& content) {
  for (const auto& [file, tensors] : content.tensors) {
    const std::string name = nn::first_not_finite(tensors);
    if (!name.empty()) return file + kTensorSuffix + ": " + name;
  }
  return {};
}

const std::map<std::string, std::string>& metadata_of(const CheckpointContent& content,
                                                      const std::string& file) {
  static const std::map<std::string, std::string> none;
  const auto found = content.metadata.find(file);
  return found == content.metadata.end() ? none : found->second;
}

void check_content(const CheckpointContent& content, int keep) {
  ONPA_CHECK(content.step >= 0, "checkpoint: step ", content.step, ", want 0 or more");
  ONPA_CHECK(keep >= 1, "checkpoint: keep ", keep, ", want 1 or more");
  for (const auto& [name, tensors] : content.tensors) {
    ONPA_CHECK(is_plain_name(name + kTensorSuffix), "checkpoint: file name \"", name, '"');
  }
  for (const auto& [name, text] : content.text) {
    ONPA_CHECK(is_plain_name(name) && !name.ends_with(kTensorSuffix), "checkpoint: file name \"",
               name, '"');
  }
  const std::string bad = first_not_finite(content);
  if (!bad.empty()) {
    fail(ExitCode::kDiverged, "checkpoint of step ", content.step, " not saved: ", bad,
         " holds NaN or infinity");
  }
}

void check_space(const fs::path& checkpoints, const CheckpointContent& content) {
  std::uint64_t needed = kReserveBytes;
  for (const auto& [name, tensors] : content.tensors) {
    needed += io::safetensors_bytes(tensors, metadata_of(content, name));
  }
  for (const auto& [name, text] : content.text) needed += text.size();
  struct statvfs status {};
  if (::statvfs(checkpoints.c_str(), &status) != 0) return;  // then the writes will tell
  const std::uint64_t free_bytes = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (free_bytes < needed) {
    fail(ExitCode::kIo, "cannot write ", (checkpoints / folder_name(content.step)).string(),
         ": No space left on device: it needs ", needed / 1000000 + 1, " MB, ",
         free_bytes / 1000000, " MB are free");
  }
}

ManifestFile write_hashed(const fs::path& path, const std::function<void(io::FileWriter&)>& fill) {
  Xxh3 hash;
  io::FileWriter file(path, [&](const void* data, std::size_t bytes) { hash.add(data, bytes); });
  fill(file);
  file.finish();
  return {file.bytes_written(), hash.digest()};
}

void write_content(const fs::path& folder, const CheckpointContent& content) {
  Manifest manifest{.step = content.step, .files = {}};
  for (const auto& [name, tensors] : content.tensors) {
    const std::string file_name = name + kTensorSuffix;
    manifest.files[file_name] = write_hashed(folder / file_name, [&](io::FileWriter& file) {
      io::write_safetensors(file, tensors, metadata_of(content, name));
    });
  }
  for (const auto& [name, text] : content.text) {
    manifest.files[name] =
        write_hashed(folder / name, [&](io::FileWriter& file) { file.write(text); });
  }
  io::sync_folder(folder);
  write_hashed(folder / kManifestName,
               [&](io::FileWriter& file) { file.write(format_manifest(manifest)); });
  io::sync_folder(folder);
}

// Keeps the newest `keep` up to `step`, and `best`. Later ones are none of this run's making (it
// would have overwritten them by now), so they do not count and are left alone.
void remove_old(const fs::path& checkpoints, std::int64_t step, int keep) {
  std::error_code none;
  const std::string best = fs::read_symlink(checkpoints / "best", none).string();
  int kept = 0;
  for (const std::int64_t old : list_steps(checkpoints)) {
    const std::string name = folder_name(old);
    if (old > step || kept++ < keep || name == best) continue;
    // Renamed first, so that nobody meets a half-removed checkpoint.
    const fs::path doomed = checkpoints / (kTemporaryPrefix + name);
    io::rename_path(checkpoints / name, doomed);
    remove_quietly(doomed);
  }
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || file.bad()) fail(ExitCode::kBadCheckpoint, path.string(), ": missing");
  return text;
}

void check_hash(const fs::path& path, const std::string& got, const ManifestFile& want) {
  if (got == want.xxh3_64) return;
  fail(ExitCode::kBadCheckpoint, path.string(), ": damaged, xxh3-64 is ", got, ", want ",
       want.xxh3_64);
}

std::string read_verified_text(const fs::path& path, const ManifestFile& want) {
  std::string text = read_text(path);
  Xxh3 hash;
  hash.add(text.data(), text.size());
  check_hash(path, hash.digest(), want);
  return text;
}

io::SafetensorsFile read_verified_tensors(const fs::path& path, const ManifestFile& want) {
  Xxh3 hash;
  try {
    io::SafetensorsFile file = io::read_safetensors(
        path, [&](const void* data, std::size_t bytes) { hash.add(data, bytes); });
    check_hash(path, hash.digest(), want);
    return file;
  } catch (const Error& error) {
    // That the file is damaged says more than what a reader stumbled over.
    if (error.code() == ExitCode::kBadCheckpoint)
      check_hash(path, measure_file(path).xxh3_64, want);
    throw;
  }
}

}  // namespace

fs::path save_checkpoint(const fs::path& checkpoints, const CheckpointContent& content, int keep) {
  check_content(content, keep);
  const io::FaultScope faults(io::FileKind::kCheckpoint);
  io::make_folders(checkpoints);
  remove_leftovers(checkpoints);
  check_space(checkpoints, content);
  const std::string name = folder_name(content.step);
  const fs::path final_folder = checkpoints / name;
  const fs::path folder = checkpoints / (kTemporaryPrefix + name);
  try {
    io::make_folder(folder);
    write_content(folder, content);
    io::exchange_folder(folder, final_folder);
    io::sync_folder(checkpoints);
    io::point_symlink(checkpoints / "last", name);
    io::sync_folder(checkpoints);
  } catch (...) {
    remove_quietly(folder);
    throw;
  }
  remove_quietly(folder);  // an older checkpoint of the same step, exchanged for this one
  remove_old(checkpoints, content.step, keep);
  return final_folder;
}

void mark_best(const fs::path& checkpoints, std::int64_t step) {
  const std::string name = folder_name(step);
  ONPA_CHECK(fs::is_directory(checkpoints / name), "checkpoint: no ", name, " to mark as best in ",
             checkpoints.string());
  const io::FaultScope faults(io::FileKind::kCheckpoint);
  io::point_symlink(checkpoints / "best", name);
  io::sync_folder(checkpoints);
}

void restore_links(const fs::path& checkpoints, std::int64_t last, std::int64_t best) {
  const io::FaultScope faults(io::FileKind::kCheckpoint);
  remove_leftovers(checkpoints);
  bool changed = false;
  for (const auto& [link, step] : {std::pair("last", last), std::pair("best", best)}) {
    std::error_code error;
    const std::string name = folder_name(step);
    if (fs::read_symlink(checkpoints / link, error) == name) continue;
    if (!fs::is_directory(checkpoints / name, error)) continue;
    io::point_symlink(checkpoints / link, name);
    changed = true;
  }
  if (changed) io::sync_folder(checkpoints);
}

CheckpointContent load_checkpoint(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    fail(ExitCode::kInputMissing, "no checkpoint folder ", folder.string());
  }
  Manifest manifest;
  try {
    manifest = parse_manifest(read_text(folder / kManifestName));
  } catch (const Error& bad) {
    fail(ExitCode::kBadCheckpoint, folder.string(), ": ", bad.what());
  }
  for (const auto& [name, want] : manifest.files) {
    const fs::path path = folder / name;
    if (!fs::is_regular_file(path, error)) {
      fail(ExitCode::kBadCheckpoint, path.string(), ": missing");
    }
    const std::uint64_t bytes = fs::file_size(path, error);
    if (error || bytes != want.bytes) {
      fail(ExitCode::kBadCheckpoint, path.string(), ": ", bytes, " bytes, want ", want.bytes);
    }
  }
  CheckpointContent content;
  content.step = manifest.step;
  for (const auto& [name, want] : manifest.files) {
    if (!name.ends_with(kTensorSuffix)) {
      content.text[name] = read_verified_text(folder / name, want);
      continue;
    }
    io::SafetensorsFile file = read_verified_tensors(folder / name, want);
    const std::string key = name.substr(0, name.size() - std::string(kTensorSuffix).size());
    content.tensors[key] = std::move(file.tensors);
    if (!file.metadata.empty()) content.metadata[key] = std::move(file.metadata);
  }
  return content;
}

std::optional<FoundCheckpoint> find_checkpoint(const fs::path& checkpoints,
                                               std::vector<std::string>& skipped) {
  for (const std::int64_t step : list_steps(checkpoints)) {
    const fs::path folder = checkpoints / folder_name(step);
    try {
      FoundCheckpoint found{folder, load_checkpoint(folder)};
      const std::string bad = first_not_finite(found.content);
      if (bad.empty()) return found;
      skipped.push_back(folder.string() + ": " + bad + " holds NaN or infinity");
    } catch (const Error& error) {
      if (error.code() == ExitCode::kOutOfMemory) throw;
      skipped.push_back(error.what());
    }
  }
  return std::nullopt;
}

}  // namespace onpa::nn
