#include "kernels/patch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/patch_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::Exact;

// Gradients are added to ones; with kAssign these must vanish.
template <class T>
PatchOutputs<T> run(const PatchData& d, GradMode mode = GradMode::kAssign) {
  const PatchCase& s = d.size;
  const PatchArrays<double>& p = d.params;
  const auto x = cast_to<T>(d.x), dy = cast_to<T>(d.dy), weight = cast_to<T>(p.weight),
             bias = cast_to<T>(p.bias), cls = cast_to<T>(p.cls), dist = cast_to<T>(p.dist),
             prefix = cast_to<T>(p.prefix), freq = cast_to<T>(p.freq), time = cast_to<T>(p.time);
  const auto ones = [](const auto& v) { return std::vector<T>(v.size(), T{1}); };
  PatchOutputs<T> out{
      std::vector<T>(dy.size(), T{777}),
      {ones(weight), ones(bias), ones(cls), ones(dist), ones(prefix), ones(freq), ones(time)}};
  const PatchInput<T> in = patch_input<T>(s, x.data(), d.keep.data());
  patch_tokens_fwd<T>(Cpu{}, {.in = in,
                              .weight = weight.data(),
                              .bias = bias.data(),
                              .cls = cls.data(),
                              .dist = dist.data(),
                              .prefix_pos = prefix.data(),
                              .freq_pos = freq.data(),
                              .time_pos = time.data(),
                              .y = out.y.data()});
  PatchArrays<T>& g = out.grad;
  patch_tokens_bwd<T>(Cpu{}, {.in = in,
                              .dy = dy.data(),
                              .dweight = g.weight.data(),
                              .dbias = g.bias.data(),
                              .dcls = g.cls.data(),
                              .ddist = g.dist.data(),
                              .dprefix_pos = g.prefix.data(),
                              .dfreq_pos = g.freq.data(),
                              .dtime_pos = g.time.data(),
                              .dweight_mode = mode,
                              .dbias_mode = mode,
                              .dcls_mode = mode,
                              .ddist_mode = mode,
                              .dprefix_pos_mode = mode,
                              .dfreq_pos_mode = mode,
                              .dtime_pos_mode = mode});
  return out;
}

template <class T>
double worst(const std::vector<T>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, size = 1;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
    size = std::max(size, std::abs(b[i]));
  }
  return difference / size;
}
template <class T>
double worst(const PatchArrays<T>& a, const PatchArrays<double>& b) {
  return std::max({worst(a.weight, b.weight), worst(a.bias, b.bias), worst(a.cls, b.cls),
                   worst(a.dist, b.dist), worst(a.prefix, b.prefix), worst(a.freq, b.freq),
                   worst(a.time, b.time)});
}

TEST(PatchKernel, DoubleMatchesTheDefinition) {
  for (const PatchCase& s : kPatchCases) {
    const PatchData d = patch_data(s);
    const PatchOutputs<double> want = patch_reference(d, 0, Exact{});
    const PatchOutputs<double> got = run<double>(d);
    EXPECT_LT(worst(got.y, want.y), 1e-13) << s;
    EXPECT_LT(worst(got.grad, want.grad), 1e-12) << s;
    EXPECT_LT(
        worst(run<double>(d, GradMode::kAccumulate).grad, patch_reference(d, 1, Exact{}).grad),
        1e-12)
        << s;
  }
}

// Sums of up to 256 products forward and of up to 700 terms backward, each rounded at 6e-8 of the
// running sum: sqrt(700) * 6e-8 = 1.6e-6 expected, 5e-6 allowed.
TEST(PatchKernel, FloatIsNearTheDefinition) {
  for (const PatchCase& s : kPatchCases) {
    const PatchData d = patch_data(s);
    const PatchOutputs<double> want = patch_reference(d, 0, Exact{});
    const PatchOutputs<float> got = run<float>(d);
    EXPECT_LT(worst(got.y, want.y), 5e-6) << s;
    EXPECT_LT(worst(got.grad, want.grad), 5e-6) << s;
  }
}

TEST(PatchKernel, CellsThatNothingUsesGetExactlyZero) {
  PatchData d = patch_data({2, 5, 2, 2, 2, 2, 3, 4, 2, 1});
  d.keep = {1, 6};  // (0, 1) and (1, 2)
  const PatchArrays<float> g = run<float>(d).grad;
  for (std::int64_t c = 0; c < d.size.width; ++c) {
    EXPECT_EQ(g.freq[c * 3 + 2], 0.0f);
    EXPECT_NE(g.freq[c * 3 + 1], 0.0f);
    for (std::int64_t t = 0; t < d.size.table(); ++t) {
      const bool used = t == 1 + 1 || t == 1 + 2;
      EXPECT_EQ(g.time[c * d.size.table() + t] != 0.0f, used) << "column " << t;
    }
  }
}

TEST(PatchKernel, BitsDoNotDependOnThreads) {
  const int before = thread_count();
  const PatchData d = patch_data(kPatchCases[4]);
  set_thread_count(1);
  const PatchOutputs<float> one = run<float>(d);
  for (const int threads : {2, 5}) {
    set_thread_count(threads);
    const PatchOutputs<float> many = run<float>(d);
    EXPECT_EQ(many.y, one.y);
    EXPECT_EQ(many.grad.weight, one.grad.weight);
    EXPECT_EQ(many.grad.bias, one.grad.bias);
    EXPECT_EQ(many.grad.freq, one.grad.freq);
    EXPECT_EQ(many.grad.time, one.grad.time);
  }
  set_thread_count(before);
}

TEST(PatchKernel, TheOffsetCanBeInMemory) {
  const PatchData d = patch_data(kPatchCases[1]);
  const auto x = cast_to<float>(d.x), p = std::vector<float>(2000, 0.5f);
  const auto time = cast_to<float>(d.params.time);
  const std::int32_t offset = 1;
  std::vector<float> y[2];
  for (const bool in_memory : {false, true}) {
    PatchInput<float> in = patch_input<float>(d.size, x.data(), d.keep.data());
    if (in_memory) {
      in.time_offset = 0;
      in.time_offset_device = &offset;
    }
    y[in_memory].resize(d.dy.size());
    patch_tokens_fwd<float>(Cpu{}, {.in = in,
                                    .weight = p.data(),
                                    .bias = p.data(),
                                    .cls = p.data(),
                                    .dist = p.data(),
                                    .prefix_pos = p.data(),
                                    .freq_pos = p.data(),
                                    .time_pos = time.data(),
                                    .y = y[in_memory].data()});
  }
  EXPECT_EQ(y[0], y[1]);
}

}  // namespace
}  // namespace onpa::kernels
