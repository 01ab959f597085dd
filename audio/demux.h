// Decoding steps behind decode() and DecodeStream. Private to audio/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "audio/byte_window.h"
#include "audio/decode.h"

namespace onpa::audio {

class FrameSink;

/// Mono PCM at the file's own rate, and what was wrong on the way.
struct Pcm {
  std::vector<float> samples;
  std::size_t skip = 0;  // of the samples, at the start: encoder delay, no part of the audio
  int rate_hz = 0;
  std::vector<std::string> damage;
  std::span<const float> audio() const { return std::span(samples).subspan(skip); }
};

/// A file that is decoded piece by piece.
class PcmReader {
 public:
  virtual ~PcmReader() = default;
  /// Decodes another piece into the sink; false at the end, where the padding has been cut off and
  /// what the file states of its length checked. Throws Error (kBadData, kIo).
  virtual bool advance() = 0;
  /// How many of the last samples in the sink may yet turn out to be padding.
  virtual std::int64_t held() const = 0;
  virtual FrameSink& sink() = 0;
  /// About how many samples the whole will have; 0 if that is not known yet.
  virtual std::int64_t expected_samples() const { return 0; }
};

/// The format that the first bytes of `file` show; as sniff_format() of bytes.
Format sniff_format(ByteWindow& file, const std::string& name);

/// A reader for `file`, which sniffs as `format`. The arguments must outlive it.
std::unique_ptr<PcmReader> open_reader(ByteWindow& file, Format format, const std::string& name,
                                       const DecodeOptions& options);
/// Of an mp3 file: frames found by Mp3Walk, each handed to the decoder; no demuxer is involved.
std::unique_ptr<PcmReader> open_mp3(ByteWindow& file, const std::string& name,
                                    const DecodeOptions& options);
/// Of a wav, flac, ogg or m4a file, through the one demuxer of that format.
std::unique_ptr<PcmReader> open_container(ByteWindow& file, Format format, const std::string& name,
                                          const DecodeOptions& options);

/// Throws Error (kBadData) naming `name` and the sample, counted from `first`, that is not finite
/// or larger than 1e6, where 1 is full scale: a float file can hold what spectrograms cannot.
void check_finite(std::span<const float> samples, std::int64_t first, const std::string& name);

}  // namespace onpa::audio
