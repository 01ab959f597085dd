#include "kernels/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/norm_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::Exact;

// One forward and backward pass of layer norm.
template <class T>
NormOutputs<T> run(const NormInputs& in, GradMode mode = GradMode::kAssign) {
  const auto [rows, cols] = in.size;
  const auto x = cast_to<T>(in.x), weight = cast_to<T>(in.weight), bias = cast_to<T>(in.bias),
             dy = cast_to<T>(in.dy);
  NormOutputs<T> out{x,
                     std::vector<T>(x.size()),
                     std::vector<T>(x.size(), 1),
                     std::vector<T>(weight.size(), 1),
                     std::vector<T>(weight.size(), 1),
                     std::vector<T>(static_cast<std::size_t>(rows)),
                     std::vector<T>(static_cast<std::size_t>(rows))};
  layer_norm_fwd<T>(Cpu{}, {.x = x.data(),
                            .weight = weight.data(),
                            .bias = bias.data(),
                            .y = out.y.data(),
                            .mean = out.mean.data(),
                            .rstd = out.rstd.data(),
                            .rows = rows,
                            .cols = cols,
                            .eps = kNormEps});
  layer_norm_bwd<T>(Cpu{}, {.dy = dy.data(),
                            .x = x.data(),
                            .weight = weight.data(),
                            .mean = out.mean.data(),
                            .rstd = out.rstd.data(),
                            .dx = out.dx.data(),
                            .dx_mode = mode,
                            .dweight = out.dweight.data(),
                            .dbias = out.dbias.data(),
                            .dweight_mode = mode,
                            .dbias_mode = mode,
                            .rows = rows,
                            .cols = cols});
  return out;
}

// The same of add_layer_norm, which overwrites x with s and ds with dx.
template <class T>
NormOutputs<T> run_add(const NormInputs& in) {
  const auto [rows, cols] = in.size;
  const auto residual = cast_to<T>(in.residual), weight = cast_to<T>(in.weight),
             bias = cast_to<T>(in.bias), dy = cast_to<T>(in.dy);
  NormOutputs<T> out{cast_to<T>(in.x),
                     std::vector<T>(in.x.size()),
                     cast_to<T>(in.ds),
                     std::vector<T>(weight.size(), 1),
                     std::vector<T>(weight.size(), 1),
                     std::vector<T>(static_cast<std::size_t>(rows)),
                     std::vector<T>(static_cast<std::size_t>(rows))};
  add_layer_norm_fwd<T>(Cpu{}, {.x = out.s.data(),
                                .residual = residual.data(),
                                .weight = weight.data(),
                                .bias = bias.data(),
                                .s = out.s.data(),
                                .y = out.y.data(),
                                .mean = out.mean.data(),
                                .rstd = out.rstd.data(),
                                .rows = rows,
                                .cols = cols,
                                .eps = kNormEps});
  add_layer_norm_bwd<T>(Cpu{}, {.dy = dy.data(),
                                .ds = out.dx.data(),
                                .s = out.s.data(),
                                .weight = weight.data(),
                                .mean = out.mean.data(),
                                .rstd = out.rstd.data(),
                                .dx = out.dx.data(),
                                .dweight = out.dweight.data(),
                                .dbias = out.dbias.data(),
                                .dweight_mode = GradMode::kAssign,
                                .dbias_mode = GradMode::kAssign,
                                .rows = rows,
                                .cols = cols});
  return out;
}

template <class F>
void for_cases(const F& f) {
  const auto call = [&f](const NormCase& size) {
    SCOPED_TRACE(::testing::Message() << size.rows << " x " << size.cols);
    f(norm_inputs(size));
  };
  for (const NormCase& size : kNormCases) call(size);
  for (const NormCase& size : kLargeNormCases) call(size);
}

template <class T>
double worst(const std::vector<T>& got, const std::vector<double>& want) {
  double difference = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    difference = std::max(difference, std::abs(got[i] - want[i]));
  }
  return difference / std::max(1e-30, testing::largest_of(want));
}

// Bounds are shares of the largest value.
template <class T>
void expect_near(const NormOutputs<T>& got, const NormOutputs<double>& want, double forward,
                 double backward) {
  EXPECT_LT(worst(got.y, want.y), forward);
  EXPECT_LT(worst(got.mean, want.mean), forward);
  EXPECT_LT(worst(got.rstd, want.rstd), forward);
  if (want.y.size() == want.mean.size()) return;  // dx is a difference of equal numbers
  EXPECT_LT(worst(got.dx, want.dx), backward);
  EXPECT_LT(worst(got.dweight, want.dweight), backward);
  EXPECT_LT(worst(got.dbias, want.dbias), backward);
}

TEST(LayerNormKernel, DoubleMatchesTheDefinition) {
  for_cases([](const NormInputs& in) {
    expect_near(run<double>(in), norm_reference(in, false, 0, Exact{}), 1e-11, 1e-11);
    expect_near(run_add<double>(in), norm_reference(in, true, 0, Exact{}), 1e-11, 1e-11);
  });
}

// Sums of `cols` rounded terms in a few partial sums, then one division and one square root: a few
// dozen roundings of 6e-8 at worst; parameter gradients add `rows` terms in chunks.
TEST(LayerNormKernel, FloatIsNearTheDefinition) {
  for_cases([](const NormInputs& in) {
    expect_near(run<float>(in), norm_reference(in, false, 0, Exact{}), 2e-6, 5e-6);
  });
}

// A mean 1000 times the spread must not eat the variance: x itself is exact, so only the mean's
// rounding (1000 * 6e-8 against a spread of 2) shows.
TEST(LayerNormKernel, SurvivesALargeMean) {
  const NormInputs in = norm_inputs({20, 768}, 2000);
  const NormOutputs<float> got = run<float>(in);
  const NormOutputs<double> want = norm_reference(in, false, 0, Exact{});
  EXPECT_LT(worst(got.y, want.y), 3e-4);
  EXPECT_LT(worst(got.rstd, want.rstd), 1e-5);
}

TEST(LayerNormKernel, AccumulateAddsToWhatIsThere) {
  for_cases([](const NormInputs& in) {
    expect_near(run<double>(in, GradMode::kAccumulate), norm_reference(in, false, 1, Exact{}),
                1e-11, 1e-11);
  });
}

// Bits and all: fusing must not change a model's numbers.
TEST(LayerNormKernel, AddedResidualEqualsSeparatePasses) {
  for_cases([](const NormInputs& in) {
    const NormOutputs<float> fused = run_add<float>(in);
    NormInputs sum = in;
    for (std::size_t i = 0; i < sum.x.size(); ++i) {
      sum.x[i] = static_cast<float>(in.x[i]) + static_cast<float>(in.residual[i]);
    }
    const NormOutputs<float> apart = run<float>(sum);
    EXPECT_EQ(fused.s, apart.s);
    EXPECT_EQ(fused.y, apart.y);
    EXPECT_EQ(fused.dweight, apart.dweight);
    EXPECT_EQ(fused.dbias, apart.dbias);
    for (std::size_t i = 0; i < apart.dx.size(); ++i) {
      ASSERT_EQ(fused.dx[i], static_cast<float>(in.ds[i]) + apart.dx[i]);
    }
  });
}

TEST(LayerNormKernel, BitsDoNotDependOnThreads) {
  const int before = thread_count();
  const NormInputs in = norm_inputs({1003, 70});
  set_thread_count(1);
  const NormOutputs<float> one = run<float>(in);
  for (const int threads : {2, 3, 5}) {
    set_thread_count(threads);
    const NormOutputs<float> many = run<float>(in);
    EXPECT_EQ(one.y, many.y);
    EXPECT_EQ(one.dx, many.dx);
    EXPECT_EQ(one.dweight, many.dweight);
    EXPECT_EQ(one.dbias, many.dbias);
  }
  set_thread_count(before);
}

TEST(LayerNormKernel, NoRowsGiveZeroParameterGradients) {
  const NormOutputs<float> got = run<float>(norm_inputs({0, 9}));
  EXPECT_EQ(got.dweight, std::vector<float>(9, 0));
  EXPECT_EQ(got.dbias, std::vector<float>(9, 0));
}

}  // namespace
}  // namespace onpa::kernels
