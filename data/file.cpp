#include "data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "kernels/error.h"

namespace onpa::data {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  // Closing can be the call that reports a failed write.
  bool close() {
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd) == 0;
  }

 private:
  int fd_;
};

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    fail(missing ? ExitCode::kInputMissing : ExitCode::kIo, path.string(),
         ": cannot open: ", std::strerror(errno));
  }
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) {
    fail(ExitCode::kIo, path.string(), ": cannot read: ", std::strerror(errno));
  }
  std::string bytes;
  if (S_ISREG(info.st_mode)) bytes.resize(static_cast<std::size_t>(info.st_size));
  std::size_t used = 0;
  for (;;) {
    // A pipe states no size; a file can grow while it is read.
    if (used == bytes.size()) bytes.resize(bytes.size() + (S_ISREG(info.st_mode) ? 1 : 1 << 16));
    const ssize_t n = ::read(file.get(), bytes.data() + used, bytes.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ExitCode::kIo, path.string(), ": cannot read: ", std::strerror(errno));
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
  }
  bytes.resize(used);
  return bytes;
}

std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  static std::atomic<std::uint64_t> counter{0};
  std::filesystem::path out = path;
  out += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
  return out;
}

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes, bool durable) {
  const std::filesystem::path temporary = temporary_beside(path);
  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (file.get() < 0) {
    fail(ExitCode::kCannotCreate, path.string(), ": cannot create: ", std::strerror(errno));
  }
  // Renaming before the data are on disk could leave an empty file after a power cut.
  const bool written = write_all(file.get(), bytes) && (!durable || ::fsync(file.get()) == 0) &&
                       file.close() && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (!written) {
    const int reason = errno;
    ::unlink(temporary.c_str());
    fail(ExitCode::kIo, path.string(), ": cannot write: ", std::strerror(reason));
  }
  if (!durable) return;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) ::fsync(directory.get());
}

}  // namespace onpa::data
