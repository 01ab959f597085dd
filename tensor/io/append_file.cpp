#include "tensor/io/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "kernels/error.h"
#include "tensor/io/file.h"

namespace onpa::io {

AppendFile::AppendFile(std::filesystem::path path, FileKind kind)
    : path_(std::move(path)), kind_(kind) {
  const FaultScope faults(kind_);
  std::error_code none;
  const bool there = std::filesystem::exists(path_, none);
  if (fault_point()) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  }
  struct stat info {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &info) != 0) {
    const int error = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    fail(ExitCode::kCannotCreate, "cannot create ", path_.string(), ": ", std::strerror(error));
  }
  bytes_ = synced_bytes_ = info.st_size;
  // Without its name on the disk too, what sync() keeps would be lost with the power.
  if (!there) sync_folder_quietly(path_.has_parent_path() ? path_.parent_path() : ".");
}

AppendFile::~AppendFile() {
  close();
}

void AppendFile::note(const char* what) {
  problem_ = std::string("cannot ") + what + " " + path_.string() + ": " + std::strerror(errno);
}

// False if the record is not there; no part of it is then.
bool AppendFile::write_record(const std::string& record) {
  if (torn_ && ::ftruncate(descriptor_, bytes_) != 0) {
    note("write");
    return false;
  }
  torn_ = false;
  std::size_t done = 0;
  while (done < record.size()) {
    const ssize_t count =
        fault_point() ? ::write(descriptor_, record.data() + done, record.size() - done) : -1;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      note("write");
      torn_ = done > 0 && ::ftruncate(descriptor_, bytes_) != 0;
      return false;
    }
    done += static_cast<std::size_t>(count);
  }
  bytes_ += static_cast<std::int64_t>(record.size());
  return true;
}

void AppendFile::append(std::string record) {
  waiting_.push_back(std::move(record));
  flush();
}

void AppendFile::flush() {
  if (descriptor_ < 0) return;
  const FaultScope faults(kind_);
  while (!waiting_.empty() && write_record(waiting_.front())) {
    unsynced_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void AppendFile::sync() {
  flush();
  if (descriptor_ < 0) return;
  const FaultScope faults(kind_);
  // Only files of the disk can be synced; a pipe that someone put here cannot.
  if ((fault_point() && ::fsync(descriptor_) == 0) || errno == EINVAL) {
    synced_bytes_ = bytes_;
    unsynced_.clear();
    return;
  }
  // The system may have dropped what it had taken, so all of it is to be written once more.
  note("sync");
  waiting_.insert(waiting_.begin(), std::make_move_iterator(unsynced_.begin()),
                  std::make_move_iterator(unsynced_.end()));
  unsynced_.clear();
  bytes_ = synced_bytes_;
  torn_ = ::ftruncate(descriptor_, bytes_) != 0;
}

void AppendFile::close() {
  if (descriptor_ < 0) return;
  flush();
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    note("close");
    close_failed_ = true;
  }
}

std::string AppendFile::problem() const {
  return waiting_.empty() && !close_failed_ ? std::string() : problem_;
}

}  // namespace onpa::io
