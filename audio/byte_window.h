// Bytes of a file, a pipe or memory, looked at by offset without the whole being held. Private to
// audio/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace onpa::audio {

class ByteWindow {
 public:
  /// Bytes in memory, which must outlive the window.
  explicit ByteWindow(std::span<const std::byte> memory);
  /// An open descriptor, from where it stands; it is closed with the window. A regular file can be
  /// looked at anywhere, a pipe only from the last forget() on. `name` is for errors.
  ByteWindow(int descriptor, std::string name);
  ~ByteWindow();
  ByteWindow(const ByteWindow&) = delete;
  ByteWindow& operator=(const ByteWindow&) = delete;

  /// `count` bytes from offset `at`, fewer where the end is nearer, valid until the next call. Of a
  /// pipe everything from the last forget() to at + count is held. Throws Error (kIo).
  std::span<const std::byte> view(std::uint64_t at, std::size_t count);
  /// Bytes before `offset` will not be asked for again.
  void forget(std::uint64_t offset);
  /// Whether any offset can be looked at at any time.
  bool is_seekable() const { return descriptor_ < 0 || regular_; }
  /// Bytes in all; of a pipe those that were read so far.
  std::uint64_t size() const {
    if (descriptor_ < 0) return memory_.size();
    return regular_ ? file_bytes_ : start_ + buffer_.size();
  }
  /// The first offset at or after `at` that holds a byte other than 0, or the end. What lies before
  /// it is forgotten. What cannot be looked at anywhere may never end: Throws Error (kBadData)
  /// after 16 MiB of zeros in it.
  std::uint64_t skip_zeros(std::uint64_t at);

 private:
  bool read_more(std::size_t count);

  std::span<const std::byte> memory_;
  int descriptor_ = -1;
  std::string name_;
  bool regular_ = false, ended_ = false;
  std::uint64_t origin_ = 0;      // of a regular file: where the descriptor stood
  std::uint64_t file_bytes_ = 0;  // from there on
  std::uint64_t start_ = 0;       // offset of buffer_[0]
  std::uint64_t kept_from_ = 0;   // as forget() said
  std::vector<std::byte> buffer_;
};

}  // namespace onpa::audio
