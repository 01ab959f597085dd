#include "kernels/index.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"
#include "tests/kernels/index_cases.h"
#include "tests/support/bf16_rule.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::cast_to;
using testing::DeviceArray;
using testing::Exact;
using testing::RoundedToBf16;
using testing::seen_as;

// The rows that y of a forward pass has for each sample.
std::int64_t rows_out(const LeadingCase& c, bool mean) {
  return mean ? 1 : c.count;
}

// y of a forward pass over x.
template <class Round>
std::vector<double> forward_reference(const LeadingCase& c, bool mean, const std::vector<double>& x,
                                      Round r) {
  std::vector<double> y(static_cast<std::size_t>(c.batch * rows_out(c, mean) * c.cols));
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::int64_t row = static_cast<std::int64_t>(i) / c.cols, j = i % c.cols;
    const std::int64_t sample = row / rows_out(c, mean), t = row % rows_out(c, mean);
    const double* tokens = x.data() + sample * c.tokens * c.cols + j;
    if (!mean) y[i] = tokens[t * c.cols];
    for (std::int64_t u = 0; mean && u < c.count; ++u) {
      y[i] += tokens[u * c.cols] / static_cast<double>(c.count);
    }
    y[i] = r(y[i]);
  }
  return y;
}

// What a backward pass of dy adds to `start`.
template <class Round>
std::vector<double> backward_reference(const LeadingCase& c, bool mean,
                                       const std::vector<double>& dy, double start, Round r) {
  std::vector<double> dx(static_cast<std::size_t>(c.batch * c.tokens * c.cols), start);
  for (std::size_t i = 0; i < dx.size(); ++i) {
    const std::int64_t row = static_cast<std::int64_t>(i) / c.cols, j = i % c.cols;
    const std::int64_t sample = row / c.tokens, t = row % c.tokens;
    if (t >= c.count) continue;
    const std::int64_t from = mean ? sample : sample * c.count + t;
    const double share = mean ? 1 / static_cast<double>(c.count) : 1;
    dx[i] = r(start + r(dy[from * c.cols + j] * share));
  }
  return dx;
}

template <class T>
void check(const LeadingCase& c, bool mean, int offset) {
  SCOPED_TRACE(::testing::Message()
               << c.batch << " x " << c.tokens << " x " << c.cols << ", first " << c.count << ", "
               << name_of(DTypeOf<T>::value) << (mean ? " mean" : " rows") << " offset " << offset);
  const std::vector<double> x = seen_as<T>(
                                testing::normal_values<double>(c.batch * c.tokens * c.cols, 1)),
                            dy = seen_as<T>(testing::normal_values<double>(
                                c.batch * rows_out(c, mean) * c.cols, 2));
  const DeviceArray<T> in(cast_to<T>(x), offset), grad(cast_to<T>(dy), offset),
      y(grad.size(), offset);
  LeadingTokens<T> args{in.data(), y.data(), GradMode::kAssign, c.batch, c.tokens, c.cols, c.count};
  mean ? leading_mean_fwd(Cuda{}, args) : leading_rows_fwd(Cuda{}, args);
  testing::expect_near(y.to_host(), forward_reference(c, mean, x, Exact{}),
                       forward_reference(c, mean, x, RoundedToBf16{}), 5e-7, 2);

  args.x = grad.data();
  for (const GradMode mode : {GradMode::kAssign, GradMode::kAccumulate}) {
    const DeviceArray<T> dx(std::vector<T>(x.size(), static_cast<T>(1.0f)), offset);
    args.y = dx.data();
    args.mode = mode;
    mean ? leading_mean_bwd(Cuda{}, args) : leading_rows_bwd(Cuda{}, args);
    const double start = mode == GradMode::kAccumulate ? 1 : 0;
    testing::expect_near(dx.to_host(), backward_reference(c, mean, dy, start, Exact{}),
                         backward_reference(c, mean, dy, start, RoundedToBf16{}), 5e-7, 3);
  }
}

TEST(CudaLeadingTokens, AgreeWithTheirDefinition) {
  for (const LeadingCase& c : kLeadingCases) {
    for (const bool mean : {false, true}) {
      for (const int offset : {0, 1}) {
        check<float>(c, mean, offset);
        check<bf16>(c, mean, offset);
      }
    }
  }
}

}  // namespace
}  // namespace onpa::kernels
