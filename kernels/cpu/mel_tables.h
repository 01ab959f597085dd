// Constants of the mel front end that do not depend on the vector width.
#pragma once

#include <cstdint>

namespace onpa::kernels {

struct Twiddle {
  float re, im;
};

struct MelTables {
  Twiddle twiddle512[64][7];  // [j][q - 1]: exp(-2 pi i j q / 512)
  Twiddle twiddle64[8][7];    // [j][q - 1]: exp(-2 pi i j q / 64)
  Twiddle split[257];         // exp(-2 pi i k / 1024)
  float window[1024];         // half of the symmetric Hann window, centred, zero around it
  std::int64_t begin, end;    // the samples of a frame that may have weight; multiples of 8
};

/// The tables for a window of `win` samples, 1 <= win <= 1024; made once and kept.
const MelTables& mel_tables(std::int64_t win);

}  // namespace onpa::kernels
