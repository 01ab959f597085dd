// A file that grows by whole records for as long as a run lasts, and outlasts a disk that is full
// for a while.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>

#include "tensor/io/fault.h"

namespace onpa::io {

/// A record that cannot be written is cut off the file again, waits in memory, and is tried again
/// with each later call: the file always holds the first so many of the records, each whole (but
/// for a kill in the middle of a write). One process at a time may append.
class AppendFile {
 public:
  /// Opens `path`, or creates it. Throws Error (kCannotCreate).
  AppendFile(std::filesystem::path path, FileKind kind);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// These never throw; problem() tells what went wrong.
  void append(std::string record);
  void flush();
  /// Also puts it on the disk itself. If that fails, all since the last sync waits again.
  void sync();
  /// flush() and close(), with its errors. Nothing can be appended after it.
  void close();

  /// Records not in the file, oldest first.
  const std::deque<std::string>& waiting() const { return waiting_; }
  /// "cannot write PATH: No space left on device" while records wait; else empty.
  std::string problem() const;

 private:
  bool write_record(const std::string& record);
  void note(const char* what);

  std::filesystem::path path_;
  FileKind kind_;
  int descriptor_ = -1;
  std::int64_t bytes_ = 0, synced_bytes_ = 0;  // of whole records
  bool torn_ = false;                          // the file may hold more than bytes_
  bool close_failed_ = false;
  std::deque<std::string> unsynced_, waiting_;
  std::string problem_;
};

}  // namespace onpa::io
