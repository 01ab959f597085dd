#include "kernels/patch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <vector>

#include "kernels/error.h"
#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/patch_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::DeviceArray;
using testing::Exact;
using testing::RoundedToBf16;
using testing::same_bits;

struct Variant {
  bool accumulate = false;        // onto ones
  bool offset_in_memory = false;  // the time offset, beside a wrong value
  int offset = 0;                 // elements between the operands and an aligned place
};

template <class T>
PatchOutputs<T> forward_and_backward(const PatchData& d, const Variant& variant) {
  const PatchCase& s = d.size;
  const PatchArrays<double>& p = d.params;
  const auto array = [&](const std::vector<double>& values) {
    return DeviceArray<T>(cast_to<T>(values), variant.offset);
  };
  const auto ones = [&](const std::vector<double>& values) {
    return array(std::vector<double>(values.size(), 1.0));
  };
  const auto x = array(d.x), dy = array(d.dy), weight = array(p.weight), bias = array(p.bias),
             cls = array(p.cls), dist = array(p.dist), prefix = array(p.prefix),
             freq = array(p.freq), time = array(p.time);
  const DeviceArray<T> y(dy.size(), variant.offset);
  const auto dweight = ones(p.weight), dbias = ones(p.bias), dcls = ones(p.cls),
             ddist = ones(p.dist), dprefix = ones(p.prefix), dfreq = ones(p.freq),
             dtime = ones(p.time);
  const DeviceArray<std::int32_t> keep(d.keep),
      offset(std::vector<std::int32_t>{static_cast<std::int32_t>(s.offset)});
  PatchInput<T> in = patch_input<T>(s, x.data(), keep.data());
  if (variant.offset_in_memory) {
    in.time_offset = -99;
    in.time_offset_device = offset.data();
  }
  PatchTokensFwd<T> fwd{.in = in,
                        .weight = weight.data(),
                        .bias = bias.data(),
                        .cls = cls.data(),
                        .dist = dist.data(),
                        .prefix_pos = prefix.data(),
                        .freq_pos = freq.data(),
                        .time_pos = time.data(),
                        .y = y.data()};
  const auto bytes = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  const DeviceArray<char> fwd_memory(bytes(patch_tokens_fwd_workspace_bytes(Cuda{}, fwd)));
  fwd.workspace = fwd_memory.data();
  patch_tokens_fwd(Cuda{}, fwd);

  const GradMode mode = variant.accumulate ? GradMode::kAccumulate : GradMode::kAssign;
  PatchTokensBwd<T> bwd{.in = in,
                        .dy = dy.data(),
                        .dweight = dweight.data(),
                        .dbias = dbias.data(),
                        .dcls = dcls.data(),
                        .ddist = ddist.data(),
                        .dprefix_pos = dprefix.data(),
                        .dfreq_pos = dfreq.data(),
                        .dtime_pos = dtime.data(),
                        .dweight_mode = mode,
                        .dbias_mode = mode,
                        .dcls_mode = mode,
                        .ddist_mode = mode,
                        .dprefix_pos_mode = mode,
                        .dfreq_pos_mode = mode,
                        .dtime_pos_mode = mode};
  const DeviceArray<char> bwd_memory(bytes(patch_tokens_bwd_workspace_bytes(Cuda{}, bwd)));
  bwd.workspace = bwd_memory.data();
  patch_tokens_bwd(Cuda{}, bwd);
  return {y.to_host(),
          {dweight.to_host(), dbias.to_host(), dcls.to_host(), ddist.to_host(), dprefix.to_host(),
           dfreq.to_host(), dtime.to_host()}};
}

// f(got, want, naive) for every output.
template <class T, class F>
void for_each_output(const PatchOutputs<T>& got, const PatchOutputs<double>& want,
                     const PatchOutputs<double>& naive, const F& f) {
  f("y", got.y, want.y, naive.y, 2);
  const auto& g = got.grad;
  const auto &w = want.grad, &n = naive.grad;
  f("weight", g.weight, w.weight, n.weight, 3);
  f("bias", g.bias, w.bias, n.bias, 3);
  f("cls", g.cls, w.cls, n.cls, 3);
  f("dist", g.dist, w.dist, n.dist, 3);
  f("prefix", g.prefix, w.prefix, n.prefix, 3);
  f("freq", g.freq, w.freq, n.freq, 3);
  f("time", g.time, w.time, n.time, 3);
}

template <class T>
bool same_bits_of_all(const PatchOutputs<T>& a, const PatchOutputs<T>& b) {
  const auto &g = a.grad, &h = b.grad;
  return same_bits(a.y, b.y) && same_bits(g.weight, h.weight) && same_bits(g.bias, h.bias) &&
         same_bits(g.cls, h.cls) && same_bits(g.dist, h.dist) && same_bits(g.prefix, h.prefix) &&
         same_bits(g.freq, h.freq) && same_bits(g.time, h.time);
}

template <class T>
PatchData seen_data(const PatchCase& size) {
  PatchData seen = patch_data(size);
  PatchArrays<double>& p = seen.params;
  for (auto* values :
       {&seen.x, &seen.dy, &p.weight, &p.bias, &p.cls, &p.dist, &p.prefix, &p.freq, &p.time}) {
    *values = testing::seen_as<T>(*values);
  }
  return seen;
}

// float: as on the CPU, sqrt(700) roundings of 6e-8 of the sum, 5e-6 allowed.
template <class T>
void check(const PatchCase& size, const Variant& variant) {
  SCOPED_TRACE(::testing::Message() << size << ", " << name_of(DTypeOf<T>::value) << ", accumulate "
                                    << variant.accumulate << ", offset " << variant.offset);
  const PatchData seen = seen_data<T>(size);
  const double start = variant.accumulate ? 1 : 0;
  std::optional<PatchOutputs<T>> first;
  testing::for_schedules([&] {
    PatchOutputs<T> got = forward_and_backward<T>(seen, variant);
    if (first) {
      EXPECT_TRUE(same_bits_of_all(got, *first)) << "bits depend on the schedule";
      return;
    }
    for_each_output(
        got, patch_reference(seen, start, Exact{}), patch_reference(seen, start, RoundedToBf16{}),
        [](const char* name, const auto& g, const auto& w, const auto& n, double factor) {
          SCOPED_TRACE(name);
          testing::expect_near(g, w, n, 5e-6, factor);
        });
    first = std::move(got);
  });
}

class CudaPatchTokens : public ::testing::TestWithParam<PatchCase> {};

TEST_P(CudaPatchTokens, AgreeWithTheDefinition) {
  for (const Variant& variant :
       {Variant{}, Variant{.accumulate = true, .offset_in_memory = true}}) {
    check<float>(GetParam(), variant);
    check<bf16>(GetParam(), variant);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaPatchTokens, ::testing::ValuesIn(kPatchCases));

// Widths and areas of whole vectors at places that are not.
TEST(CudaPatchKernel, UnalignedOperands) {
  const PatchCase s = {2, 24, 4, 4, 3, 3, 3, 5, 9, 2};
  check<float>(s, {.offset = 1});
  check<bf16>(s, {.offset = 1});
}

TEST(CudaPatchKernel, AnEmptyBatchLeavesZerosOrWhatWasThere) {
  const PatchData d = patch_data({0, 9, 2, 2, 2, 2, 3, 4, 5});
  for (const bool accumulate : {false, true}) {
    const PatchArrays<float> g = forward_and_backward<float>(d, {.accumulate = accumulate}).grad;
    for (const auto* values : {&g.weight, &g.bias, &g.cls, &g.dist, &g.prefix, &g.freq, &g.time}) {
      for (const float v : *values) ASSERT_EQ(v, accumulate ? 1.0f : 0.0f);
    }
  }
}

TEST(CudaPatchKernel, NanOfAWeightStaysOutOfTheLeadingTokens) {
  PatchData d = patch_data({2, 8, 2, 2, 2, 2, 3, 4, 5});
  d.params.weight[4] = NAN;  // channel 1
  const std::vector<float> y = forward_and_backward<float>(d, {}).y;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const bool bad = i % 8 == 1 && i / 8 % 7 >= 2;
    ASSERT_EQ(std::isnan(y[i]), bad) << i;
  }
}

// One output after the other; what is not asked for needs no workspace.
TEST(CudaPatchKernel, NullOutputs) {
  const PatchCase s = {2, 24, 4, 4, 3, 3, 3, 5, 9, 2};
  const PatchData d = patch_data(s);
  const PatchArrays<float> want = forward_and_backward<float>(d, {}).grad;
  const DeviceArray<float> x(cast_to<float>(d.x)), dy(cast_to<float>(d.dy));
  const DeviceArray<std::int32_t> keep(d.keep);
  const std::vector<float>* const wants[] = {&want.weight, &want.bias, &want.cls, &want.dist,
                                             &want.prefix, &want.freq, &want.time};
  std::size_t largest = 0;
  for (int which = 0; which <= 7; ++which) {
    PatchTokensBwd<float> args{};
    args.in = patch_input<float>(s, x.data(), keep.data());
    args.dy = dy.data();
    float** const outputs[] = {&args.dweight,     &args.dbias,     &args.dcls,     &args.ddist,
                               &args.dprefix_pos, &args.dfreq_pos, &args.dtime_pos};
    const DeviceArray<float> out(which < 7 ? static_cast<std::int64_t>(wants[which]->size())
                                           : std::int64_t{0});
    if (which < 7) *outputs[which] = out.data();
    const std::size_t bytes = patch_tokens_bwd_workspace_bytes(Cuda{}, args);
    EXPECT_EQ(bytes == 0, which == 7);
    largest = std::max(largest, bytes);
    const DeviceArray<char> workspace(static_cast<std::int64_t>(bytes));
    args.workspace = workspace.data();
    patch_tokens_bwd(Cuda{}, args);
    if (which < 7) {
      EXPECT_EQ(out.to_host(), *wants[which]) << which;
    }
  }
}

// ---- patchout ----

struct Drawn {
  std::vector<std::int32_t> keep;
  std::int32_t offset;
  friend bool operator==(const Drawn&, const Drawn&) = default;
};

Drawn draw_on_cpu(DrawPatchout a) {
  Drawn out{std::vector<std::int32_t>(static_cast<std::size_t>(a.kept())), -1};
  a.keep = out.keep.data();
  a.time_offset = &out.offset;
  draw_patchout(Cpu{}, a);
  return out;
}

Drawn draw_on_gpu(DrawPatchout a, bool state_in_memory = false) {
  const DeviceArray<std::int32_t> keep(a.kept()), offset(1);
  const DeviceArray<StepState> state(std::vector<StepState>{{.step = a.step}});
  a.keep = keep.data();
  a.time_offset = offset.data();
  if (state_in_memory) {
    a.state = state.data();
    a.step = 12345;
  }
  draw_patchout(Cuda{}, a);
  return {keep.to_host(), offset.to_host()[0]};
}

// Grids with each kind of drop and with all; 129 + 3 cells use more words than whole blocks of the
// generator hold; columns that fill the table leave no offset to draw.
const DrawPatchout kDraws[] = {
    {.grid_f = 1, .grid_t = 1, .table_t = 1},
    {.grid_f = 5, .grid_t = 12, .table_t = 19},
    {.grid_f = 12, .grid_t = 99, .table_t = 99, .drop_time = 40},
    {.grid_f = 12, .grid_t = 7, .table_t = 99, .drop_freq = 4},
    {.grid_f = 3, .grid_t = 43, .table_t = 44, .drop_unstructured = 60},
    {.grid_f = 12,
     .grid_t = 99,
     .table_t = 120,
     .drop_time = 38,
     .drop_freq = 3,
     .drop_unstructured = 101},
    {.grid_f = 6, .grid_t = 5, .table_t = 9, .drop_time = 4, .drop_freq = 5},
    {.grid_f = 16,
     .grid_t = 17,
     .table_t = 1000,
     .drop_time = 1,
     .drop_freq = 1,
     .drop_unstructured = 239}};

TEST(CudaPatchout, DrawsWhatTheCpuDraws) {
  for (DrawPatchout a : kDraws) {
    a.seed = 0x123456789ABCDEFull;
    a.step = 77;
    const Drawn want = draw_on_cpu(a);
    testing::for_schedules([&] {
      EXPECT_EQ(draw_on_gpu(a), want) << a.grid_f << " x " << a.grid_t;
      EXPECT_EQ(draw_on_gpu(a, true), want) << a.grid_f << " x " << a.grid_t;
    });
  }
}

TEST(CudaPatchout, ManySteps) {
  DrawPatchout a{.grid_f = 5,
                 .grid_t = 13,
                 .table_t = 20,
                 .drop_time = 3,
                 .drop_freq = 2,
                 .drop_unstructured = 7,
                 .seed = 3};
  for (; a.step < 40; ++a.step) ASSERT_EQ(draw_on_gpu(a), draw_on_cpu(a)) << "step " << a.step;
}

// More cells than words are made ahead; and as many as there may be.
TEST(CudaPatchout, LargeGrids) {
  for (const auto& [grid_f, grid_t] : {std::pair{12, 407}, {12, 1300}, {128, 128}}) {
    const DrawPatchout a{.grid_f = grid_f,
                         .grid_t = grid_t,
                         .table_t = grid_t + 5,
                         .drop_time = 1,
                         .drop_unstructured = grid_t * 6,
                         .seed = 5,
                         .step = 6};
    EXPECT_EQ(draw_on_gpu(a), draw_on_cpu(a)) << grid_t;
  }
  DrawPatchout a{.grid_f = 128, .grid_t = 129, .table_t = 129};
  EXPECT_THROW(draw_on_gpu(a), Error);
}

// Fisher-Yates over n cells rejects a draw about once in 2^34 / n^2 times: searched for.
TEST(CudaPatchout, RejectedDraws) {
  struct Counter {
    Philox rng;
    int words = 0;
    std::uint32_t next_u32() {
      ++words;
      return rng.next_u32();
    }
  };
  constexpr std::int64_t kCells = 16000;
  DrawPatchout a{.grid_f = 1, .grid_t = kCells, .table_t = kCells, .drop_time = 5000, .seed = 8};
  for (; a.step < 5000; ++a.step) {
    Counter counter{Philox({.seed = a.seed, .stream = kStreamPatchout, .step = a.step})};
    for (std::uint32_t i = kCells; i > 1; --i) below(counter, i);
    if (counter.words > kCells - 1) break;
  }
  ASSERT_LT(a.step, 5000u);
  EXPECT_EQ(draw_on_gpu(a), draw_on_cpu(a)) << "step " << a.step;
}

}  // namespace
}  // namespace onpa::kernels
