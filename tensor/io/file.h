// Files written so that a reader finds a whole one or none: every call checked, synced, renamed
// into place. Each system call that changes the disk first passes fault_point() (fault.h), so that
// tests can stop or fail a writer at any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace onpa::io {

/// The file that one written to `path` is to replace: `path`, or where it leads if it is a link,
/// which may be nowhere yet. Throws Error (kCannotCreate) for a folder, device or pipe, and for a
/// link in /proc, /sys or /dev or that leads through one: those stand for what a process has open.
std::filesystem::path place_of(const std::filesystem::path& path);

/// Removes files that are being written or wait for their commit(). For a handler of a signal that
/// ends the process: calls only what may be called there.
void remove_unfinished_files();

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
  /// Replaces the first bytes, which have been written and no tap may have seen.
  void rewrite_start(const std::string& text);
  /// Takes room on the disk for a file of `bytes` in all, where the file system can.
  void reserve(std::uint64_t bytes);
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

/// A file written, and synced if `durable`, beside its place (place_of()), which it takes with
/// commit(); a link stays, and what it leads to is replaced. Of
/// files that belong together all can so be on the disk before the first takes its place. The
/// temporary's name is `.tmp-`, the name of the file, `-` and numbers; it goes with this object.
class StagedFile {
 public:
  /// Throws Error (kCannotCreate, kIo), as place_of() does.
  StagedFile(std::filesystem::path path, const std::function<void(FileWriter&)>& fill,
             bool durable = true);
  StagedFile(std::filesystem::path path, std::string_view bytes, bool durable = true);
  ~StagedFile();
  StagedFile(StagedFile&& other) noexcept;
  StagedFile& operator=(StagedFile&&) = delete;
  /// Rename, sync of the folder. Throws Error (kIo). Once.
  void commit();

 private:
  std::filesystem::path path_, shown_, temporary_;  // temporary_ is empty if no longer there
  bool durable_;
};

/// StagedFile and commit() in one: `path` is as it was if it throws. Without `durable` nothing is
/// synced: after a crash of the process the file is still whole, after a power cut it may be
/// damaged.
void write_file_atomic(const std::filesystem::path& path,
                       const std::function<void(FileWriter&)>& fill, bool durable = true);
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes,
                       bool durable = true);

/// Throws the Error that writing `bytes` to `path` would end in (kCannotCreate, kIo), if that can
/// be known now: before the work of which the file is the result. Leaves nothing behind.
void require_room(const std::filesystem::path& path, std::uint64_t bytes);

/// mkdir with all parents, each synced into the one above, so that a power cut does not take them
/// with what is in them. Throws Error (kCannotCreate).
void make_folders(const std::filesystem::path& path);
/// mkdir, rename and fsync of a folder, each checked. Throw Error (kCannotCreate, kIo).
void make_folder(const std::filesystem::path& path);
void rename_path(const std::filesystem::path& from, const std::filesystem::path& to);
void sync_folder(const std::filesystem::path& path);
/// The same where it can be done: some folders may be written to, but not opened.
void sync_folder_quietly(const std::filesystem::path& path);
/// Puts the folder `from` at `to`; if there is one already, exchanges the two in one step.
void exchange_folder(const std::filesystem::path& from, const std::filesystem::path& to);
/// Points the symlink `link` at `target` (as text), replacing an older link in one step.
void point_symlink(const std::filesystem::path& link, const std::string& target);

}  // namespace onpa::io
