// The mel front end as tensor ops: what a LibTorch program would write, with window and bank made
// beforehand.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "bench/libtorch/rows.h"

namespace onpa::vs {
namespace {

constexpr std::int64_t kFft = 1024, kWindow = 800, kHop = 320, kMels = 128, kRateHz = 32000;
constexpr double kFmaxHz = 15000, kPreemphasis = 0.97;

double mel_of(double hz) {
  return 1127 * std::log1p(hz / 700);
}

// (mels, bins): triangles on the mel scale; the last bin has no weight.
at::Tensor mel_bank() {
  at::Tensor bank = at::zeros({kMels, kFft / 2 + 1}, at::kDouble);
  auto cell = bank.accessor<double, 2>();
  const double step = mel_of(kFmaxHz) / (kMels + 1);
  for (std::int64_t band = 0; band < kMels; ++band) {
    const double left = static_cast<double>(band) * step;
    for (std::int64_t bin = 0; bin < kFft / 2; ++bin) {
      const double mel = mel_of(static_cast<double>(bin * kRateHz) / kFft);
      cell[band][bin] =
          std::max(0.0, std::min((mel - left) / step, (left + 2 * step - mel) / step));
    }
  }
  return bank.to(at::kFloat);
}

Work mel(const Job&, Inputs in) {
  const at::Tensor wave = in["wave"], bank = mel_bank();
  const at::Tensor window = at::hann_window(kWindow, /*periodic=*/false, at::kFloat);
  const auto run = [=] {
    const c10::NoGradGuard no_grad;
    const std::int64_t n = wave.size(1);
    const at::Tensor y = wave.slice(1, 1, n) - kPreemphasis * wave.slice(1, 0, n - 1);
    const at::Tensor spectrum =
        at::stft(y, kFft, kHop, kWindow, window, /*center=*/true, "reflect", /*normalized=*/false,
                 /*onesided=*/true, /*return_complex=*/true);
    const at::Tensor power = at::view_as_real(spectrum).square().sum(-1);
    return at::matmul(bank, power).add_(1e-5).log_().add_(4.5).div_(5);
  };
  return {.check =
              [run] {
                Outputs out;
                add(out, "mel", run());
                return out;
              },
          .run = [run] { run(); }};
}

}  // namespace

std::map<std::string, MakeWork> mel_kinds() {
  return {{"mel", mel}};
}

}  // namespace onpa::vs
