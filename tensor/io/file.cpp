#include "tensor/io/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "tensor/io/fault.h"

namespace onpa::io {
namespace {

// One write() moves at most this much, so that a long one can be interrupted between pieces.
constexpr std::size_t kWriteBytes = std::size_t{64} << 20;

[[noreturn]] void fail_errno(ExitCode code, const char* what, const std::filesystem::path& path) {
  const int error = errno;
  fail(code, "cannot ", what, ' ', path.string(), ": ", std::strerror(error));
}

// A name beside `path` that no other writer of this machine uses at the same time.
std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  static std::atomic<unsigned> counter{0};
  return path.parent_path() / (".tmp-" + path.filename().string() + "-" +
                               std::to_string(::getpid()) + "-" + std::to_string(counter++));
}

// Names of files that are to go if a signal ends the process. Of a fixed number, as a handler can
// wait for no lock; what is beyond it stays behind.
constexpr std::size_t kMostUnfinished = 512;
std::array<std::atomic<char*>, kMostUnfinished> unfinished{};
std::mutex changing_unfinished;  // between threads; a handler takes names out without it

void note_unfinished(const std::filesystem::path& path) {
  const std::lock_guard lock(changing_unfinished);
  for (std::atomic<char*>& slot : unfinished) {
    if (slot.load() != nullptr) continue;
    slot.store(::strdup(path.c_str()));
    return;
  }
}

void forget_unfinished(const std::filesystem::path& path) {
  const std::lock_guard lock(changing_unfinished);
  for (std::atomic<char*>& slot : unfinished) {
    const char* name = slot.load();
    if (name == nullptr || path != name) continue;
    std::free(slot.exchange(nullptr));  // null if a handler has it now, which needs the text
    return;
  }
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

[[noreturn]] void refuse_place(const std::filesystem::path& path, const std::string& why) {
  fail(ExitCode::kCannotCreate, "cannot create ", path.string(), ": ", why);
}

// Whether links there stand for what a process has open, or for devices.
bool is_system_folder(const std::filesystem::path& folder) {
  const auto under = [&](const std::filesystem::path& root) {
    return std::mismatch(root.begin(), root.end(), folder.begin(), folder.end()).first ==
           root.end();
  };
  return under("/proc") || under("/sys") || (under("/dev") && !under("/dev/shm"));
}

}  // namespace

std::filesystem::path place_of(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  constexpr int kMostLinks = 40;
  std::error_code none;
  fs::path at = path;
  fs::file_status status = fs::symlink_status(at, none);
  for (int links = 0; fs::is_symlink(status); ++links) {
    if (links == kMostLinks) refuse_place(path, "too many links");
    if (is_system_folder(fs::weakly_canonical(folder_of(at), none))) {
      refuse_place(path, at == path ? "it is a link of the system"
                                    : "it leads to " + at.string() + ", a link of the system");
    }
    const fs::path target = fs::read_symlink(at, none);
    if (target.empty()) refuse_place(path, none.message());
    at = target.is_absolute() || !at.has_parent_path() ? target : at.parent_path() / target;
    status = fs::symlink_status(at, none);
  }
  // A rename would put a file in the place of a device or pipe.
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    refuse_place(path, "it is not a regular file");
  }
  return at;
}

void remove_unfinished_files() {
  for (std::atomic<char*>& slot : unfinished) {
    if (const char* name = slot.exchange(nullptr)) ::unlink(name);
  }
}

FileWriter::FileWriter(std::filesystem::path path, Tap tap, std::filesystem::path shown)
    : path_(std::move(path)),
      shown_(shown.empty() ? path_ : std::move(shown)),
      tap_(std::move(tap)) {
  // A signal waits until the file that it would leave behind is noted.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  if (fault_point()) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  const int error = errno;
  if (descriptor_ >= 0) note_unfinished(path_);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  if (descriptor_ < 0) fail_errno(ExitCode::kCannotCreate, "create", shown_);
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!finished_) ::unlink(path_.c_str());
  forget_unfinished(path_);
}

void FileWriter::write(const void* data, std::size_t bytes) {
  if (tap_ && bytes > 0) tap_(data, bytes);
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done =
        fault_point() ? ::write(descriptor_, next, std::min(bytes, kWriteBytes)) : -1;
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_errno(ExitCode::kIo, "write", shown_);
    next += done;
    bytes -= static_cast<std::size_t>(done);
    bytes_written_ += static_cast<std::size_t>(done);
  }
}

void FileWriter::rewrite_start(const std::string& text) {
  ONPA_CHECK(!tap_ && text.size() <= bytes_written_, "rewrite_start: ", text.size(), " bytes of ",
             bytes_written_);
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t done = fault_point() ? ::pwrite(descriptor_, text.data() + at, text.size() - at,
                                                  static_cast<off_t>(at))
                                       : -1;
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_errno(ExitCode::kIo, "write", shown_);
    at += static_cast<std::size_t>(done);
  }
}

void FileWriter::reserve(std::uint64_t bytes) {
  if (bytes == 0) return;
  // Not every file system can reserve; there the writes will tell.
  const bool done = fault_point() && ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) == 0;
  if (!done && errno != EOPNOTSUPP && errno != ENOSYS) fail_errno(ExitCode::kIo, "write", shown_);
}

void FileWriter::finish(bool durable) {
  if (durable && (!fault_point() || ::fsync(descriptor_) != 0))
    fail_errno(ExitCode::kIo, "sync", shown_);
  const int descriptor = std::exchange(descriptor_, -1);
  const bool allowed = fault_point();
  const int error = errno;
  if (::close(descriptor) != 0) fail_errno(ExitCode::kIo, "close", shown_);
  if (!allowed) {
    errno = error;
    fail_errno(ExitCode::kIo, "close", shown_);
  }
  finished_ = true;
}

StagedFile::StagedFile(std::filesystem::path path, const std::function<void(FileWriter&)>& fill,
                       bool durable)
    : path_(place_of(path)), shown_(std::move(path)), durable_(durable) {
  const std::filesystem::path temporary = temporary_beside(path_);
  FileWriter writer(temporary, nullptr, shown_);
  fill(writer);
  writer.finish(durable);
  note_unfinished(temporary);  // before the writer forgets it
  temporary_ = temporary;
}

StagedFile::StagedFile(std::filesystem::path path, std::string_view bytes, bool durable)
    : StagedFile(
          std::move(path), [&](FileWriter& file) { file.write(bytes.data(), bytes.size()); },
          durable) {}

StagedFile::StagedFile(StagedFile&& other) noexcept
    : path_(std::move(other.path_)),
      shown_(std::move(other.shown_)),
      temporary_(std::exchange(other.temporary_, {})),
      durable_(other.durable_) {}

StagedFile::~StagedFile() {
  if (temporary_.empty()) return;
  ::unlink(temporary_.c_str());
  forget_unfinished(temporary_);
}

void StagedFile::commit() {
  if (!fault_point() || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail_errno(ExitCode::kIo, "rename to", shown_);
  }
  forget_unfinished(temporary_);
  temporary_.clear();
  if (durable_) sync_folder(folder_of(path_));
}

void write_file_atomic(const std::filesystem::path& path,
                       const std::function<void(FileWriter&)>& fill, bool durable) {
  StagedFile(path, fill, durable).commit();
}

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes, bool durable) {
  StagedFile(path, bytes, durable).commit();
}

void require_room(const std::filesystem::path& path, std::uint64_t bytes) {
  FileWriter probe(temporary_beside(place_of(path)), nullptr, path);
  probe.reserve(bytes);
}

void sync_folder_quietly(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  const int ignored = ::fsync(descriptor);
  static_cast<void>(ignored);
  ::close(descriptor);
}

void make_folders(const std::filesystem::path& path) {
  std::error_code error;
  std::vector<std::filesystem::path> parents;  // of folders that are not there yet, deepest first
  for (std::filesystem::path at = path; !at.empty() && !std::filesystem::exists(at, error);) {
    if (at.has_filename()) parents.push_back(folder_of(at));
    const std::filesystem::path above = at.parent_path();
    if (above == at) break;
    at = above;
  }
  error.clear();
  if (fault_point()) {
    std::filesystem::create_directories(path, error);
  } else {
    error = std::error_code(errno, std::generic_category());
  }
  if (!error) {
    for (const std::filesystem::path& parent : parents) sync_folder_quietly(parent);
  }
  if (!error && !std::filesystem::is_directory(path, error) && !error) {
    error = std::make_error_code(std::errc::not_a_directory);
  }
  if (error) {
    fail(ExitCode::kCannotCreate, "cannot create folder ", path.string(), ": ", error.message());
  }
}

void make_folder(const std::filesystem::path& path) {
  if (!fault_point() || (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST)) {
    fail_errno(ExitCode::kCannotCreate, "create folder", path);
  }
  if (!std::filesystem::is_directory(path)) {
    fail(ExitCode::kCannotCreate, "cannot create folder ", path.string(),
         ": a file of that name is in the way");
  }
}

void rename_path(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (!fault_point() || ::rename(from.c_str(), to.c_str()) != 0) {
    fail_errno(ExitCode::kIo, "rename to", to);
  }
}

void sync_folder(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_errno(ExitCode::kIo, "open folder", path);
  const bool synced = fault_point() && ::fsync(descriptor) == 0;
  const int error = errno;
  ::close(descriptor);
  errno = error;
  if (!synced) fail_errno(ExitCode::kIo, "sync folder", path);
}

void exchange_folder(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (!std::filesystem::exists(std::filesystem::symlink_status(to))) {
    rename_path(from, to);
    return;
  }
  if (!fault_point()) fail_errno(ExitCode::kIo, "exchange", to);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
  // Not every file system can exchange; there the old folder is briefly under another name.
  const std::filesystem::path aside = temporary_beside(to);
  rename_path(to, aside);
  rename_path(from, to);
  rename_path(aside, from);
}

void point_symlink(const std::filesystem::path& link, const std::string& target) {
  const std::filesystem::path temporary = temporary_beside(link);
  if (!fault_point() || ::symlink(target.c_str(), temporary.c_str()) != 0) {
    fail_errno(ExitCode::kIo, "create link", link);
  }
  try {
    rename_path(temporary, link);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace onpa::io
