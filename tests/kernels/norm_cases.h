// Cases and reference of the layer norm tests on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/support/random_values.h"

namespace onpa::kernels {

struct NormCase {
  std::int64_t rows, cols;
};
// One element, primes, nothing, below and over a vector, a warp, a warp's vectors, the rows of a
// block and of a chunk, with odd tails; widths at the limits of what a warp keeps in registers.
inline constexpr NormCase kNormCases[] = {{1, 1},    {3, 5},    {7, 8},    {2, 17},   {64, 31},
                                          {65, 96},  {0, 16},   {37, 127}, {19, 264}, {10, 520},
                                          {33, 768}, {5, 1024}, {3, 1032}, {150, 40}};
inline constexpr NormCase kLargeNormCases[] = {{1100, 33}, {300, 768}};
constexpr float kNormEps = 1e-6f;

struct NormInputs {
  NormCase size;
  std::vector<double> x, residual, weight, bias, dy, ds;
};
/// All values are floats. `shift` is the mean of x.
inline NormInputs norm_inputs(NormCase size, double shift = 0) {
  const std::int64_t n = size.rows * size.cols;
  const auto draw = [](std::int64_t count, std::uint64_t seed, double scale, double mean) {
    return testing::normal_values<double>(count, seed, scale, mean);
  };
  return {size,
          draw(n, 1, 2, shift),
          draw(n, 5, 1, 0),
          draw(size.cols, 2, 1, 0),
          draw(size.cols, 3, 1, 0),
          draw(n, 4, 1, 0),
          draw(n, 6, 1, 0)};
}

template <class T, class Stat = T>
struct NormOutputs {
  std::vector<T> s, y, dx, dweight, dbias;
  std::vector<Stat> mean, rstd;
};

/// The definition. With `add`, s = x + residual is normalised and ds added to dx; else s is x.
/// `start` is what dx (without `add`), dweight and dbias are added to. `r` rounds whatever a
/// program would store on its way.
template <class Round>
NormOutputs<double> norm_reference(const NormInputs& in, bool add, double start, Round r) {
  const auto [rows, cols] = in.size;
  NormOutputs<double> out{
      in.x, in.x, in.x, std::vector<double>(in.weight.size()), std::vector<double>(in.bias.size()),
      {},   {}};
  std::vector<double> xhat(static_cast<std::size_t>(cols)), g(xhat.size());
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t at = row * cols;
    double mean = 0, variance = 0, g_mean = 0, gx_mean = 0;
    for (std::int64_t c = 0; c < cols; ++c) {
      if (add) out.s[at + c] = r(in.x[at + c] + in.residual[at + c]);
      mean += out.s[at + c] / static_cast<double>(cols);
    }
    mean = r(mean);
    for (std::int64_t c = 0; c < cols; ++c) {
      const double deviation = r(out.s[at + c] - mean);
      variance += r(deviation * deviation) / static_cast<double>(cols);
    }
    const double rstd = r(1 / std::sqrt(r(variance) + double{kNormEps}));
    for (std::int64_t c = 0; c < cols; ++c) {
      xhat[c] = r(r(out.s[at + c] - mean) * rstd);
      out.y[at + c] = r(r(xhat[c] * in.weight[c]) + in.bias[c]);
      out.dweight[c] += r(in.dy[at + c] * xhat[c]);
      out.dbias[c] += in.dy[at + c];
      g[c] = r(in.dy[at + c] * in.weight[c]);
      g_mean += g[c] / static_cast<double>(cols);
      gx_mean += r(g[c] * xhat[c]) / static_cast<double>(cols);
    }
    for (std::int64_t c = 0; c < cols; ++c) {
      const double slope = r(r(r(g[c] - r(g_mean)) - r(xhat[c] * r(gx_mean))) * rstd);
      out.dx[at + c] = r((add ? in.ds[at + c] : start) + slope);
    }
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
  }
  for (std::int64_t c = 0; c < cols; ++c) {
    out.dweight[c] = r(start + r(out.dweight[c]));
    out.dbias[c] = r(start + r(out.dbias[c]));
  }
  return out;
}

}  // namespace onpa::kernels
