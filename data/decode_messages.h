// What a decoder in a process of its own and the process that it works for tell each other: one
// request, a file; one reply. Samples go through a file in memory that both have open. Private to
// data/.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onpa::data {

// Descriptors of the decoder's process.
constexpr int kDecoderSocket = 3, kDecoderSamples = 4;
// Of a message, the text behind its head included; a socket takes as much at once.
constexpr std::size_t kMaxMessageBytes = std::size_t{32} << 10;

/// Before the path of the file.
struct DecodeRequest {
  std::int32_t rate_hz = 0;
  std::int32_t tolerate_errors = 0;
  double max_seconds = 0, min_seconds = 0;
  std::int64_t fault = 0;  // of io::order_fault()
};

/// Before the message of an error.
struct DecodeReply {
  enum Kind : std::int32_t { kReady, kSamples, kError, kOutOfMemory };
  std::int32_t kind = kReady;
  std::int32_t code = 0;  // ExitCode of an error
  std::int64_t rate_hz = 0, samples = 0;
};

}  // namespace onpa::data
