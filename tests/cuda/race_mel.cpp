// The mel front end on clips of two blocks.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/mel_cufft.h"
#include "kernels/mel.h"
#include "tests/kernels/mel_cases.h"

namespace onpa::kernels {
namespace {

TEST(MelRace, Frames) {
  for (const MelSetting& s : {MelSetting{}, MelSetting{.hop = 161, .mels = 40}}) {
    const auto wave = testing::normal_values<float>(5443, 1, 0.2);
    const MelBank bank = mel_bank_of(s);
    const std::vector<MelMask> masks = {{.f0 = 3, .f_len = 4, .t0 = 5, .t_len = 6}};
    MelFwd<> args = mel_args(s, 1, 5443);
    std::vector<float> y(static_cast<std::size_t>(s.mels * args.frames));
    args.wave = wave.data();
    args.y = y.data();
    args.bank = bank.view();
    args.mask = masks.data();
    mel_fwd(Cuda{}, args);
    EXPECT_NE(y[0], y[1]);
  }
}

// Few frames: ThreadSanitizer pays for each thread.
TEST(MelRace, Cufft) {
  constexpr std::int64_t kChunk = 2;
  const MelSetting s{.mels = 40};
  const auto wave = testing::normal_values<float>(700, 1, 0.2);
  const MelBank bank = mel_bank_of(s);
  MelFwd<> args = mel_args(s, 1, 700);
  std::vector<float> y(static_cast<std::size_t>(s.mels * args.frames));
  args.wave = wave.data();
  args.y = y.data();
  args.bank = bank.view();
  ONPA_CUDA_CHECK(cudaMalloc(&args.workspace, mel_cufft_workspace_bytes(args, kChunk)));
  mel_cufft(Cuda{}, args, kChunk);
  ONPA_CUDA_CHECK(cudaFree(args.workspace));
  EXPECT_NE(y[0], y[1]);
}

}  // namespace
}  // namespace onpa::kernels
