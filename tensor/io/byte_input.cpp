#include "tensor/io/byte_input.h"

#include <fcntl.h>
#include <unistd.h>

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace onpa::io {

ByteInput::ByteInput(const std::filesystem::path& path) : name_(path.string()) {
  // Without O_NONBLOCK a named pipe would wait here for its writer.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    fail(ExitCode::kInputMissing, "cannot open ", name_, ": ", std::strerror(errno));
  }
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    fail(ExitCode::kBadCheckpoint, name_, ": not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

ByteInput::ByteInput(std::span<const std::byte> bytes, std::string name)
    : name_(std::move(name)), bytes_(bytes), size_(bytes.size()) {}

ByteInput::~ByteInput() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void ByteInput::read(std::span<std::byte> out, std::uint64_t offset) const {
  if (offset > size_ || out.size() > size_ - offset) {
    fail(ExitCode::kBadCheckpoint, name_, ": ends at byte ", size_, ", but ", out.size(),
         " bytes at ", offset, " are needed");
  }
  if (descriptor_ < 0) {
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return;
  }
  while (!out.empty()) {
    constexpr std::size_t kMostBytes = std::size_t{1} << 30;
    const ssize_t done = ::pread(descriptor_, out.data(), std::min(out.size(), kMostBytes),
                                 static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail(ExitCode::kIo, "cannot read ", name_, ": ", std::strerror(errno));
    if (done == 0) {
      fail(ExitCode::kBadCheckpoint, name_, ": the file became shorter while it was read");
    }
    out = out.subspan(static_cast<std::size_t>(done));
    offset += static_cast<std::uint64_t>(done);
  }
}

std::string ByteInput::head(std::size_t most) const {
  std::string out(static_cast<std::size_t>(std::min<std::uint64_t>(most, size_)), '\0');
  read(std::as_writable_bytes(std::span(out)), 0);
  return out;
}

}  // namespace onpa::io
