// Decoding steps behind decode(). Private to audio/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "audio/decode.h"

namespace onpa::audio {

/// Mono PCM at the file's own rate, and what was wrong on the way.
struct Pcm {
  std::vector<float> samples;
  std::size_t skip = 0;  // of the samples, at the start: encoder delay, no part of the audio
  int rate_hz = 0;
  std::vector<std::string> damage;
  std::span<const float> audio() const { return std::span(samples).subspan(skip); }
};

/// An mp3 file: frames found by scan_mp3(), each handed to the decoder; no demuxer is involved.
Pcm decode_mp3(std::span<const std::byte> bytes, const std::string& name,
               const DecodeOptions& options);

/// A wav, flac, ogg or m4a file through the one demuxer of that format, reading from memory.
Pcm decode_container(std::span<const std::byte> bytes, const std::string& name, Format format,
                     const DecodeOptions& options);

}  // namespace onpa::audio
