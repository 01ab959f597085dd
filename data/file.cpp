#include "data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

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

 private:
  int fd_;
};

}  // namespace

int open_to_read(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    fail(missing ? ExitCode::kInputMissing : ExitCode::kIo, path.string(),
         ": cannot open: ", std::strerror(errno));
  }
  return descriptor;
}

std::string hash_hex(std::uint64_t hash) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (int shift = 60; shift >= 0; shift -= 4) hex += kDigits[(hash >> shift) & 15];
  return hex;
}

std::string read_file(const std::filesystem::path& path) {
  const Descriptor file(open_to_read(path));
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

}  // namespace onpa::data
