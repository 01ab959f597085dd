// Decoding of audio files to mono PCM at one rate, through FFmpeg and libmpg123, from memory only.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "audio/clip.h"

namespace onpa::audio {

enum class Format { kMp3, kWav, kFlac, kOgg, kM4a };

struct DecodeOptions {
  int rate_hz = kModelRateHz;
  double max_seconds = 1800;     // longer files are an error
  double min_seconds = 0.05;     // shorter ones too
  bool tolerate_errors = false;  // accept files with damaged frames
};

/// The format that the first bytes show; throws Error (kBadData) naming `name` when they show none
/// (text, playlists, zeros). Never trusts a file name.
Format sniff_format(std::span<const std::byte> bytes, const std::string& name);

/// Decodes a whole file: all channels averaged, resampled to options.rate_hz. Encoder delay and
/// padding are trimmed where the file states them. The demuxer is forced, so nothing inside the
/// file can make FFmpeg open another. Throws Error (kBadData) naming `name` and the reason.
Clip decode(std::span<const std::byte> bytes, const std::string& name,
            const DecodeOptions& options = {});

/// Reads and decodes a file. Throws Error kInputMissing if it is not there, kIo if it cannot be
/// read, kBadData as decode().
Clip decode_file(const std::filesystem::path& path, const DecodeOptions& options = {});

}  // namespace onpa::audio
