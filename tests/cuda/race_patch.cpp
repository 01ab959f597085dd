// Patch gradients and patchout on grids that the race detector can afford.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/patch.h"
#include "tests/cuda/device_memory.h"
#include "tests/kernels/patch_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;

TEST(PatchRace, Gradients) {
  const PatchCase s = {2, 8, 2, 3, 1, 2, 2, 2, 3};
  const PatchData d = patch_data(s);
  const auto x = cast_to<float>(d.x), dy = cast_to<float>(d.dy);
  std::vector<float> prefix(static_cast<std::size_t>(2 * s.width)),
      freq(static_cast<std::size_t>(s.width * s.grid_f)),
      time(static_cast<std::size_t>(s.width * s.table()));
  PatchTokensBwd<float> args{};
  args.in = patch_input<float>(s, x.data(), d.keep.data());
  args.dy = dy.data();
  args.dprefix_pos = prefix.data();
  args.dfreq_pos = freq.data();
  args.dtime_pos = time.data();
  const testing::DeviceArray<char> workspace(
      static_cast<std::int64_t>(patch_tokens_bwd_workspace_bytes(Cuda{}, args)));
  args.workspace = workspace.data();
  patch_tokens_bwd(Cuda{}, args);
  EXPECT_NE(freq[0], 0.0f);
  EXPECT_NE(time[0], time[1]);
}

TEST(PatchRace, Patchout) {
  DrawPatchout a{.grid_f = 9,
                 .grid_t = 40,
                 .table_t = 50,
                 .drop_time = 3,
                 .drop_freq = 2,
                 .drop_unstructured = 100,
                 .seed = 1,
                 .step = 2};
  std::vector<std::int32_t> keep(static_cast<std::size_t>(a.kept())), offset(1);
  a.keep = keep.data();
  a.time_offset = offset.data();
  draw_patchout(Cuda{}, a);
  EXPECT_LT(keep[0], keep[1]);
}

}  // namespace
}  // namespace onpa::kernels
