#include "audio/byte_window.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace onpa::audio {
namespace {

constexpr std::size_t kStep = 1 << 16;
constexpr std::uint64_t kMostPipeZeros = 16 << 20;

}  // namespace

ByteWindow::ByteWindow(std::span<const std::byte> memory) : memory_(memory) {}

ByteWindow::ByteWindow(int descriptor, std::string name)
    : descriptor_(descriptor), name_(std::move(name)) {
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return;
  const off_t origin = ::lseek(descriptor, 0, SEEK_CUR);
  if (origin < 0) return;
  regular_ = true;
  origin_ = static_cast<std::uint64_t>(origin);
  file_bytes_ = static_cast<std::uint64_t>(std::max<off_t>(0, status.st_size - origin));
}

ByteWindow::~ByteWindow() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::span<const std::byte> ByteWindow::view(std::uint64_t at, std::size_t count) {
  if (descriptor_ < 0) {
    const auto from = static_cast<std::size_t>(std::min<std::uint64_t>(at, memory_.size()));
    return memory_.subspan(from, std::min(count, memory_.size() - from));
  }
  if (regular_ && (at < start_ || at > start_ + buffer_.size())) {
    buffer_.clear();
    start_ = at;
    ended_ = false;
  }
  ONPA_CHECK(at >= start_, "decode: byte ", at, " of ", name_, " is gone");
  while (start_ + buffer_.size() < at + count && !ended_) {
    if (!read_more(static_cast<std::size_t>(at + count - start_ - buffer_.size()))) ended_ = true;
  }
  const std::uint64_t end = start_ + buffer_.size();
  if (at >= end) return {};
  return std::span<const std::byte>(buffer_).subspan(
      static_cast<std::size_t>(at - start_),
      static_cast<std::size_t>(std::min<std::uint64_t>(count, end - at)));
}

// Appends up to about `count` bytes, after dropping what was forgotten. Returns false at the end.
bool ByteWindow::read_more(std::size_t count) {
  const std::uint64_t end = start_ + buffer_.size();
  const std::uint64_t drop = std::min(std::max(kept_from_, start_), end) - start_;
  if (drop > 0) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(drop));
    start_ += drop;
  }
  const std::size_t before = buffer_.size();
  // A skip over many bytes of a pipe goes by steps, so that forgotten ones are not held.
  buffer_.resize(before + std::clamp(count, kStep, 16 * kStep));
  ssize_t got = 0;
  do {
    got = regular_ ? ::pread(descriptor_, buffer_.data() + before, buffer_.size() - before,
                             static_cast<off_t>(origin_ + end))
                   : ::read(descriptor_, buffer_.data() + before, buffer_.size() - before);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    const int error = errno;
    buffer_.resize(before);
    fail(ExitCode::kIo, name_, ": cannot be read: ", std::strerror(error));
  }
  buffer_.resize(before + static_cast<std::size_t>(got));
  return got > 0;
}

void ByteWindow::forget(std::uint64_t offset) {
  kept_from_ = offset;
}

std::uint64_t ByteWindow::skip_zeros(std::uint64_t at) {
  for (const std::uint64_t from = at;;) {
    if (!is_seekable() && at - from > kMostPipeZeros) {
      fail(ExitCode::kBadData, name_, ": more than ", kMostPipeZeros >> 20,
           " MiB of zero bytes from byte ", from, " on");
    }
    forget(at);
    const std::span<const std::byte> bytes = view(at, kStep);
    const auto other =
        std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
    at += static_cast<std::uint64_t>(other - bytes.begin());
    if (bytes.empty() || other != bytes.end()) return at;
  }
}

}  // namespace onpa::audio
