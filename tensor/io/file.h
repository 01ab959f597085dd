// Files written so that a reader finds a whole one or none: every call checked, synced, renamed
// into place. Each system call that changes the disk first passes fault_point(), so that tests can
// stop or fail a save at any of them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace onpa::io {

/// A file that is created by its writer and removed again unless finish() succeeds.
class FileWriter {
 public:
  /// Sees every byte that is written, in order (to hash it).
  using Tap = std::function<void(const void* data, std::size_t bytes)>;

  /// Creates `path`, which must not exist. Errors name `shown` instead, if it is given: the file
  /// that a person asked for, where `path` is a temporary. Throws Error (kCannotCreate).
  explicit FileWriter(std::filesystem::path path, Tap tap = nullptr,
                      std::filesystem::path shown = {});
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  /// Throws Error (kIo), as does finish(), naming file and cause ("No space left on device").
  void write(const void* data, std::size_t bytes);
  void write(const std::string& text) { write(text.data(), text.size()); }
  /// Syncs (if `durable`) and closes.
  void finish(bool durable = true);
  std::size_t bytes_written() const { return bytes_written_; }

 private:
  std::filesystem::path path_, shown_;
  Tap tap_;
  int descriptor_ = -1;
  bool finished_ = false;
  std::size_t bytes_written_ = 0;
};

/// Writes `path` through a temporary file beside it: `fill` writes, then sync, rename, sync of the
/// folder. Throws Error (kCannotCreate, kIo); `path` is then as it was. A folder, device or pipe of
/// that name is refused (kCannotCreate). Without `durable` nothing is synced: after a crash of the
/// process the file is still whole, after a power cut it may be damaged. The temporary's name is
/// `.tmp-`, the name of the file, `-` and numbers.
void write_file_atomic(const std::filesystem::path& path,
                       const std::function<void(FileWriter&)>& fill, bool durable = true);
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes,
                       bool durable = true);

/// mkdir, rename and fsync of a folder, each checked. Throw Error (kCannotCreate, kIo).
void make_folder(const std::filesystem::path& path);
void rename_path(const std::filesystem::path& from, const std::filesystem::path& to);
void sync_folder(const std::filesystem::path& path);
/// Puts the folder `from` at `to`; if there is one already, exchanges the two in one step.
void exchange_folder(const std::filesystem::path& from, const std::filesystem::path& to);
/// Points the symlink `link` at `target` (as text), replacing an older link in one step.
void point_symlink(const std::filesystem::path& link, const std::string& target);

/// Counts one file operation while a FaultScope lives on this thread, and otherwise does nothing.
/// If the environment holds ONPA_FAULT=checkpoint:N:ACTION and this is the N-th since the process
/// began (from 1), it acts: `kill` raises SIGKILL, `enospc` and `eio` set errno and return false,
/// upon which the caller must fail as if its system call had.
bool fault_point();

/// Marks the operations of this thread as those of a checkpoint save. Throws Error (kConfig) if
/// ONPA_FAULT is set to anything else.
class FaultScope {
 public:
  FaultScope();
  ~FaultScope();
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;
};

}  // namespace onpa::io
