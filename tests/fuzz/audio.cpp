// Decoding of any bytes: samples that are finite and no longer than allowed, or kBadData.
#include <algorithm>
#include <cmath>

#include "audio/decode.h"
#include "tests/fuzz/target.h"

ONPA_FUZZ_TARGET(audio, bytes) {
  using namespace onpa;
  audio::DecodeOptions options;
  options.max_seconds = 20;
  options.min_seconds = 0;
  if (!bytes.empty()) options.tolerate_errors = (static_cast<int>(bytes.back()) & 1) != 0;
  audio::Clip clip;
  if (!fuzz::survives({ExitCode::kBadData},
                      [&] { clip = audio::decode(bytes, "input", options); })) {
    return;
  }
  fuzz::require(clip.rate_hz == options.rate_hz, "another rate than asked for");
  fuzz::require(clip.seconds() <= options.max_seconds + 1, "longer than allowed");
  fuzz::require(std::ranges::all_of(clip.samples, [](float x) { return std::isfinite(x); }),
                "a sample that is not finite");
}
