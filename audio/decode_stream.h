// Decoding of long audio by blocks: the samples of decode(), in memory that does not grow with the
// length of the audio.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "audio/decode.h"

namespace onpa::audio {

class DecodeStream {
 public:
  /// A file, or a pipe that has a path. Throws Error as decode_file(), kBadData for a format that
  /// is not known; there is no limit on the file's bytes.
  explicit DecodeStream(const std::filesystem::path& path, const DecodeOptions& options = {});
  /// An open descriptor, such as standard input, which is closed with the stream. Errors call it
  /// `name`. From a pipe an m4a must have its index in front.
  DecodeStream(int descriptor, std::string name, const DecodeOptions& options = {});
  /// Bytes in memory, which must outlive the stream.
  DecodeStream(std::span<const std::byte> bytes, std::string name,
               const DecodeOptions& options = {});
  ~DecodeStream();
  DecodeStream(const DecodeStream&) = delete;
  DecodeStream& operator=(const DecodeStream&) = delete;

  /// Appends the next samples, about a quarter of a second of the file, to `out`; false if there
  /// are none left. All of them together are what decode() gives of the whole, bit by bit. Throws
  /// Error (kBadData, kIo) as decode() where the damage is met: what came before it was good, but
  /// only the end of the audio shows that a file is.
  bool read(std::vector<float>& out);
  /// Samples that read() has given so far.
  std::int64_t samples() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace onpa::audio
