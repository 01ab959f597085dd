#include "kernels/cpu/mel_tables.h"

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <numbers>

namespace onpa::kernels {
namespace {

Twiddle unit(double k, double n) {
  const double angle = -2 * std::numbers::pi * k / n;
  return {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
}

std::unique_ptr<const MelTables> make(std::int64_t win) {
  auto t = std::make_unique<MelTables>();
  for (int j = 0; j < 64; ++j) {
    for (int q = 1; q < 8; ++q) t->twiddle512[j][q - 1] = unit(j * q, 512);
  }
  for (int j = 0; j < 8; ++j) {
    for (int q = 1; q < 8; ++q) t->twiddle64[j][q - 1] = unit(j * q, 64);
  }
  for (int k = 0; k <= 256; ++k) t->split[k] = unit(k, 1024);
  const std::int64_t left = (1024 - win) / 2;
  for (std::int64_t i = 0; i < 1024; ++i) t->window[i] = 0;
  for (std::int64_t i = 0; i < win; ++i) {
    const double hann =
        win == 1 ? 1.0
                 : 0.5 - 0.5 * std::cos(2 * std::numbers::pi * i / static_cast<double>(win - 1));
    // The split of the spectrum averages two points; the half is applied here, where it is free.
    t->window[left + i] = static_cast<float>(0.5 * hann);
  }
  t->begin = left / 8 * 8;
  t->end = (left + win + 7) / 8 * 8;
  return t;
}

}  // namespace

const MelTables& mel_tables(std::int64_t win) {
  static std::mutex mutex;
  static std::map<std::int64_t, std::unique_ptr<const MelTables>> kept;
  const std::lock_guard lock(mutex);
  auto& tables = kept[win];
  if (!tables) tables = make(win);
  return *tables;
}

}  // namespace onpa::kernels
