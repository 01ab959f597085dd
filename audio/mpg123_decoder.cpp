#include "audio/mpg123_decoder.h"

#include <mpg123.h>

#include <new>

#include "kernels/error.h"

namespace onpa::audio {

void Mpg123Decoder::Delete::operator()(mpg123_handle_struct* p) const {
  mpg123_delete(p);
}

Mpg123Decoder::Mpg123Decoder(const MpegHeader& header) : handle_(mpg123_new(nullptr, nullptr)) {
  if (!handle_) throw std::bad_alloc();
  // Whole frames come from scan_mp3(), which has looked for tags, gaps and changes itself.
  constexpr long kFlags = MPG123_QUIET | MPG123_FORCE_FLOAT | MPG123_NO_READAHEAD |
                          MPG123_NO_RESYNC | MPG123_IGNORE_INFOFRAME | MPG123_SKIP_ID3V2;
  mpg123_handle* handle = handle_.get();
  const int channels = header.mono ? MPG123_MONO : MPG123_STEREO;
  const bool ready =
      mpg123_param(handle, MPG123_FLAGS, kFlags, 0) == MPG123_OK &&
      mpg123_format_none(handle) == MPG123_OK &&
      mpg123_format(handle, header.rate_hz, channels, MPG123_ENC_FLOAT_32) == MPG123_OK &&
      mpg123_open_feed(handle) == MPG123_OK;
  ONPA_CHECK(ready, "decode: libmpg123 cannot make float samples: ", mpg123_strerror(handle));
}

std::span<const float> Mpg123Decoder::decode(std::span<const std::byte> frame) {
  mpg123_handle* handle = handle_.get();
  int code =
      mpg123_feed(handle, reinterpret_cast<const unsigned char*>(frame.data()), frame.size());
  unsigned char* data = nullptr;
  std::size_t bytes = 0;
  off_t number = 0;
  if (code == MPG123_OK) code = mpg123_decode_frame(handle, &number, &data, &bytes);
  if (code == MPG123_NEW_FORMAT) code = mpg123_decode_frame(handle, &number, &data, &bytes);
  if (code != MPG123_OK) {
    mpg123_open_feed(handle);  // what it kept of this frame must not precede the next
    return {};
  }
  return {reinterpret_cast<const float*>(data), bytes / sizeof(float)};
}

}  // namespace onpa::audio
