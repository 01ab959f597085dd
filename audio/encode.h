// Encoding of mono PCM to mp3 through FFmpeg, for corpora that onpa renders itself.
#pragma once

#include <cstddef>
#include <vector>

#include "audio/clip.h"

namespace onpa::audio {

/// An mp3 file (with the gapless header) of `clip`. Rates that mp3 knows only: 32000, 44100, 48000
/// and their halves. Throws Error (kInternal) if FFmpeg has no mp3 encoder.
std::vector<std::byte> encode_mp3(const Clip& clip, int bitrate_kbps = 128);

}  // namespace onpa::audio
