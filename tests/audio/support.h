// What the tests of audio/ share.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "audio/decode.h"
#include "kernels/error.h"
#include "tests/support/audio_files.h"

namespace onpa::audio {

using Bytes = std::vector<std::byte>;

inline Bytes bytes_of(std::string_view text) {
  const auto* p = reinterpret_cast<const std::byte*>(text.data());
  return {p, p + text.size()};
}

/// The error of decoding `file`, which must be of kind kBadData and name the file; "accepted" if
/// there is none.
inline std::string refusal(const Bytes& file, const DecodeOptions& options = {}) {
  try {
    decode(file, "clip.bin", options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData) << error.what();
    EXPECT_EQ(std::string(error.what()).find("clip.bin: "), 0u) << error.what();
    return error.what();
  }
  return "accepted";
}

#define EXPECT_REFUSED(file, text)                                  \
  do {                                                              \
    const std::string got = ::onpa::audio::refusal(file);           \
    EXPECT_NE(got.find(text), std::string::npos) << "got: " << got; \
  } while (0)

/// `got` scaled to fit `want` best (LAME turns the level down by a few percent), then compared.
inline double fitted_snr_db(std::vector<float> got, const std::vector<float>& want) {
  double dot = 0, square = 1e-30;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    dot += static_cast<double>(got[i]) * want[i];
    square += static_cast<double>(got[i]) * got[i];
  }
  const double gain = dot / square;
  EXPECT_NEAR(gain, 1, 0.07);
  for (float& v : got) v *= static_cast<float>(gain);
  return testing::snr_db(got, want);
}

}  // namespace onpa::audio
