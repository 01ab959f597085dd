#include "kernels/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <vector>

#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/norm_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::DeviceArray;
using testing::Exact;
using testing::RoundedToBf16;
using testing::same_bits;

template <class T>
using Outputs = NormOutputs<T, float>;

struct Variant {
  bool add = false;         // add_layer_norm
  bool accumulate = false;  // onto 1; with `add` dx is written over ds
  bool in_place = false;    // y over x, with `add` s over x and y over the residual
  int offset = 0;           // elements between the operands and an aligned place
};

template <class T>
std::vector<T> ones(std::size_t n) {
  return std::vector<T>(n, static_cast<T>(1.0f));
}

template <class T>
Outputs<T> run(const NormInputs& in, const Variant& variant) {
  const auto [rows, cols] = in.size;
  const auto array = [&](const std::vector<double>& values) {
    return DeviceArray<T>(cast_to<T>(values), variant.offset);
  };
  const auto x = array(in.x), residual = array(in.residual), weight = array(in.weight),
             bias = array(in.bias), dy = array(in.dy), ds = array(in.ds);
  const DeviceArray<T> s_apart(rows * cols, variant.offset), y_apart(rows * cols, variant.offset);
  const DeviceArray<float> mean(rows), rstd(rows);
  T* const s = !variant.add ? x.data() : variant.in_place ? x.data() : s_apart.data();
  T* const y = !variant.in_place ? y_apart.data() : variant.add ? residual.data() : x.data();
  const GradMode mode = variant.accumulate ? GradMode::kAccumulate : GradMode::kAssign;
  const DeviceArray<T> dx_apart(ones<T>(in.x.size()), variant.offset);
  const DeviceArray<T> dweight(ones<T>(in.weight.size()), variant.offset),
      dbias(ones<T>(in.weight.size()), variant.offset);
  const DeviceArray<T>& dx = variant.add && variant.accumulate ? ds : dx_apart;

  if (variant.add) {
    add_layer_norm_fwd<T>(Cuda{}, {.x = x.data(),
                                   .residual = residual.data(),
                                   .weight = weight.data(),
                                   .bias = bias.data(),
                                   .s = s,
                                   .y = y,
                                   .mean = mean.data(),
                                   .rstd = rstd.data(),
                                   .rows = rows,
                                   .cols = cols,
                                   .eps = kNormEps});
  } else {
    layer_norm_fwd<T>(Cuda{}, {.x = x.data(),
                               .weight = weight.data(),
                               .bias = bias.data(),
                               .y = y,
                               .mean = mean.data(),
                               .rstd = rstd.data(),
                               .rows = rows,
                               .cols = cols,
                               .eps = kNormEps});
  }
  Outputs<T> out;
  out.y = (!variant.in_place ? y_apart : variant.add ? residual : x).to_host();
  // Plain layer norm in place has lost its x; the backward pass gets it anew.
  const DeviceArray<T> x_again = array(in.x);
  const DeviceArray<T>& kept = !variant.add ? x_again : variant.in_place ? x : s_apart;
  out.s = kept.to_host();
  if (variant.add) {
    AddLayerNormBwd<T> args{.dy = dy.data(),
                            .ds = ds.data(),
                            .s = kept.data(),
                            .weight = weight.data(),
                            .mean = mean.data(),
                            .rstd = rstd.data(),
                            .dx = dx.data(),
                            .dweight = dweight.data(),
                            .dbias = dbias.data(),
                            .dweight_mode = mode,
                            .dbias_mode = mode,
                            .rows = rows,
                            .cols = cols};
    const DeviceArray<char> workspace(
        static_cast<std::int64_t>(add_layer_norm_bwd_workspace_bytes(Cuda{}, args)));
    args.workspace = workspace.data();
    add_layer_norm_bwd(Cuda{}, args);
    out.dx = dx.to_host();
  } else {
    LayerNormBwd<T> args{.dy = dy.data(),
                         .x = kept.data(),
                         .weight = weight.data(),
                         .mean = mean.data(),
                         .rstd = rstd.data(),
                         .dx = dx.data(),
                         .dx_mode = mode,
                         .dweight = dweight.data(),
                         .dbias = dbias.data(),
                         .dweight_mode = mode,
                         .dbias_mode = mode,
                         .rows = rows,
                         .cols = cols};
    const DeviceArray<char> workspace(
        static_cast<std::int64_t>(layer_norm_bwd_workspace_bytes(Cuda{}, args)));
    args.workspace = workspace.data();
    layer_norm_bwd(Cuda{}, args);
    out.dx = dx.to_host();
  }
  out.dweight = dweight.to_host();
  out.dbias = dbias.to_host();
  out.mean = mean.to_host();
  out.rstd = rstd.to_host();
  return out;
}

// float: a few dozen roundings of 6e-8 in sums over a row, and over rows for parameters; statistics
// are float for either type, of what was stored as T.
template <class T>
void expect_near(const Outputs<T>& got, const NormInputs& seen, const Variant& variant) {
  const double start = variant.accumulate ? 1 : 0;
  const NormOutputs<double> want = norm_reference(seen, variant.add, start, Exact{});
  const NormOutputs<double> naive = norm_reference(seen, variant.add, start, RoundedToBf16{});
  const auto near = [](const auto& g, const auto& w, const auto& n, double bound, double factor) {
    testing::expect_near(g, w, n, bound, factor);
  };
  near(got.s, want.s, naive.s, 1e-7, 1);
  near(got.y, want.y, naive.y, 2e-6, 2);
  near(got.dx, want.dx, naive.dx, 5e-6, 3);
  near(got.dweight, want.dweight, naive.dweight, 5e-6, 3);
  near(got.dbias, want.dbias, naive.dbias, 5e-6, 3);
  if (variant.add && std::is_same_v<T, bf16>) return;  // s itself is rounded
  near(got.mean, want.mean, naive.mean, 2e-6, 2);
  near(got.rstd, want.rstd, naive.rstd, 2e-6, 2);
}

template <class T>
void check(const NormCase& size, const Variant& variant) {
  SCOPED_TRACE(::testing::Message()
               << size.rows << " x " << size.cols << ", " << name_of(DTypeOf<T>::value) << ", add "
               << variant.add << ", accumulate " << variant.accumulate << ", in place "
               << variant.in_place << ", offset " << variant.offset);
  NormInputs seen = norm_inputs(size);
  for (auto* values : {&seen.x, &seen.residual, &seen.weight, &seen.bias, &seen.dy, &seen.ds}) {
    *values = testing::seen_as<T>(*values);
  }
  std::optional<Outputs<T>> first;
  testing::for_schedules([&] {
    const Outputs<T> got = run<T>(seen, variant);
    if (!first) {
      expect_near(got, seen, variant);
      first = got;
      return;
    }
    EXPECT_TRUE(same_bits(got.y, first->y) && same_bits(got.dx, first->dx) &&
                same_bits(got.dweight, first->dweight) && same_bits(got.dbias, first->dbias))
        << "bits depend on the schedule";
  });
}

class CudaLayerNorm : public ::testing::TestWithParam<NormCase> {};

TEST_P(CudaLayerNorm, AgreesWithTheDefinition) {
  for (const Variant& variant :
       {Variant{}, Variant{.accumulate = true, .in_place = true}, Variant{.add = true},
        Variant{.add = true, .accumulate = true, .in_place = true}}) {
    check<float>(GetParam(), variant);
    check<bf16>(GetParam(), variant);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaLayerNorm, ::testing::ValuesIn(kNormCases),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols);
                         });

// The widths that a warp could keep in registers, were the operands aligned.
TEST(CudaLayerNormKernel, UnalignedOperands) {
  for (const bool add : {false, true}) {
    check<float>({5, 96}, {.add = add, .offset = 1});
    check<bf16>({5, 96}, {.add = add, .offset = 1});
  }
}

TEST(CudaLayerNormKernel, SurvivesALargeMean) {
  const NormInputs in = norm_inputs({9, 768}, 2000);
  const Outputs<float> got = run<float>(in, {});
  const NormOutputs<double> want = norm_reference(in, false, 0, Exact{});
  // Only the mean's rounding, 1000 * 6e-8 against a spread of 2, shows.
  EXPECT_LT(testing::largest_error(got.y, want.y), 3e-4 * testing::largest_of(want.y));
  EXPECT_LT(testing::largest_error(got.rstd, want.rstd), 1e-5 * testing::largest_of(want.rstd));
}

template <class T>
void check_nan(std::int64_t cols) {
  NormInputs in = norm_inputs({20, cols});
  in.x[static_cast<std::size_t>(3 * cols + 1)] = NAN;
  const Outputs<T> got = run<T>(in, {});
  for (std::int64_t i = 0; i < 20 * cols; ++i) {
    const bool bad = i / cols == 3;
    ASSERT_EQ(std::isnan(static_cast<float>(got.y[i])), bad) << cols << " at " << i;
    ASSERT_EQ(std::isnan(static_cast<float>(got.dx[i])), bad) << cols << " at " << i;
  }
  for (const T v : got.dweight) ASSERT_TRUE(std::isnan(static_cast<float>(v)));
  for (const T v : got.dbias) ASSERT_FALSE(std::isnan(static_cast<float>(v)));
}

TEST(CudaLayerNormKernel, NanStaysInItsRow) {
  for (const std::int64_t cols : {64, 37}) {
    check_nan<float>(cols);
    check_nan<bf16>(cols);
  }
}

// Outputs that nobody wants are not written, the others are what they were.
TEST(CudaLayerNormKernel, NullOutputs) {
  for (const std::int64_t cols : {64, 37}) {
    const NormInputs in = norm_inputs({40, cols});
    const Outputs<float> want = run<float>(in, {});
    const DeviceArray<float> x(cast_to<float>(in.x)), dy(cast_to<float>(in.dy)),
        weight(cast_to<float>(in.weight)), mean(want.mean), rstd(want.rstd);
    for (int wanted = 0; wanted < 8; ++wanted) {
      const DeviceArray<float> dx(40 * cols), dweight(cols), dbias(cols);
      LayerNormBwd<float> args{.dy = dy.data(),
                               .x = x.data(),
                               .weight = weight.data(),
                               .mean = mean.data(),
                               .rstd = rstd.data(),
                               .dx = wanted & 1 ? dx.data() : nullptr,
                               .dx_mode = GradMode::kAssign,
                               .dweight = wanted & 2 ? dweight.data() : nullptr,
                               .dbias = wanted & 4 ? dbias.data() : nullptr,
                               .dweight_mode = GradMode::kAssign,
                               .dbias_mode = GradMode::kAssign,
                               .rows = 40,
                               .cols = cols};
      const auto bytes = static_cast<std::int64_t>(layer_norm_bwd_workspace_bytes(Cuda{}, args));
      EXPECT_EQ(bytes == 0, wanted < 2) << "a workspace is for parameter gradients";
      const DeviceArray<char> workspace(bytes);
      args.workspace = workspace.data();
      layer_norm_bwd(Cuda{}, args);
      const auto expect = [&](const DeviceArray<float>& got, const std::vector<float>& value,
                              int bit) {
        if (wanted & bit) {
          EXPECT_EQ(got.to_host(), value) << cols << ", wanted " << wanted;
        } else {
          EXPECT_TRUE(std::isnan(got.to_host()[0])) << cols << ", wanted " << wanted;
        }
      };
      expect(dx, want.dx, 1);
      expect(dweight, want.dweight, 2);
      expect(dbias, want.dbias, 4);
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
