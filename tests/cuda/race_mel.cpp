// The mel front end on clips of two blocks.
#include <gtest/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace onpa::kernels
