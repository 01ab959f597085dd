// Audio files in memory for tests, written by FFmpeg's encoders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace onpa::testing {

/// What a file holds: channels of equal length, nominally [-1, 1].
using Planes = std::vector<std::vector<float>>;

struct FileKind {
  std::string muxer;         // mp3, wav, flac, ogg, ipod
  std::string encoder;       // libmp3lame, pcm_s16le, flac, libvorbis, libopus, aac, ...
  std::string options = "";  // of the muxer, "key=value:key=value"
  std::int64_t bits_per_second = 128000;
};

bool has_encoder(const std::string& name);

/// Encodes; throws Error if FFmpeg refuses.
std::vector<std::byte> make_file(const FileKind& kind, const Planes& planes, int rate_hz);

/// A mix of slowly moving tones below `top_hz`, different per channel, peak about 0.6.
Planes make_tones(int channels, std::int64_t samples, int rate_hz, double top_hz = 3000);

std::vector<float> mean_of_channels(const Planes& planes);

/// Signal-to-error ratio in dB of `got` against `want`, over the common length.
double snr_db(const std::vector<float>& got, const std::vector<float>& want);

}  // namespace onpa::testing
