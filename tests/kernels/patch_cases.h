// Cases and reference of the patch embedding tests on every device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <ostream>
#include <vector>

#include "kernels/patch.h"
#include "kernels/philox.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {

struct PatchCase {
  std::int64_t batch, width, patch_f, patch_t, stride_f, stride_t, grid_f, grid_t, kept;
  std::int64_t offset = 0;  // of the time table
  bool per_sample = false;  // a set of kept cells for each sample
  std::int64_t mels() const { return (grid_f - 1) * stride_f + patch_f + 1; }
  std::int64_t frames() const { return (grid_t - 1) * stride_t + patch_t + 3; }
  std::int64_t table() const { return offset + grid_t + 2; }
  std::int64_t tokens() const { return kept + 2; }
  std::int64_t area() const { return patch_f * patch_t; }
  friend std::ostream& operator<<(std::ostream& out, const PatchCase& s) {
    return out << "batch " << s.batch << " width " << s.width << " grid " << s.grid_f << " x "
               << s.grid_t << " kept " << s.kept;
  }
};
// One of everything; odd sizes; a patch of the published model; a set for each sample, with widths
// and areas of whole vectors; more channels and columns than a tile with an odd tail.
inline const PatchCase kPatchCases[] = {{1, 1, 1, 1, 1, 1, 1, 1, 1},
                                        {2, 7, 3, 5, 2, 3, 4, 6, 11, 1},
                                        {2, 17, 16, 16, 10, 10, 2, 3, 6},
                                        {3, 24, 4, 4, 4, 4, 5, 31, 131, 4, true},
                                        {1, 40, 2, 3, 1, 2, 12, 60, 700}};

// `kept` random cells per set, ascending.
inline std::vector<std::int32_t> random_cells(const PatchCase& s) {
  std::vector<std::int32_t> out;
  for (std::int64_t b = 0; b < (s.per_sample ? s.batch : 1); ++b) {
    std::vector<std::int32_t> cells(static_cast<std::size_t>(s.grid_f * s.grid_t));
    std::iota(cells.begin(), cells.end(), 0);
    Philox rng({.seed = 9, .stream = kStreamTest, .sample = static_cast<std::uint64_t>(b)});
    rng.shuffle(cells);
    std::sort(cells.begin(), cells.begin() + s.kept);
    out.insert(out.end(), cells.begin(), cells.begin() + s.kept);
  }
  return out;
}

/// Parameters, or their gradients.
template <class T>
struct PatchArrays {
  std::vector<T> weight, bias, cls, dist, prefix, freq, time;
};

struct PatchData {
  PatchCase size;
  std::vector<std::int32_t> keep;
  PatchArrays<double> params;
  std::vector<double> x, dy;
};
/// All values are floats.
inline PatchData patch_data(const PatchCase& s) {
  const auto draw = [](std::int64_t n, std::uint64_t seed) {
    return testing::normal_values<double>(n, seed);
  };
  return {s,
          random_cells(s),
          {draw(s.width * s.area(), 1), draw(s.width, 2), draw(s.width, 3), draw(s.width, 4),
           draw(2 * s.width, 5), draw(s.width * s.grid_f, 6), draw(s.width * s.table(), 7)},
          draw(s.batch * s.mels() * s.frames(), 8),
          draw(s.batch * s.tokens() * s.width, 10)};
}

/// Everything of PatchInput but the pointers to x and keep.
template <class T>
PatchInput<T> patch_input(const PatchCase& s, const T* x, const std::int32_t* keep) {
  return {.x = x,
          .keep = keep,
          .keep_stride = s.per_sample ? s.kept : 0,
          .batch = s.batch,
          .mels = s.mels(),
          .frames = s.frames(),
          .width = s.width,
          .patch_f = s.patch_f,
          .patch_t = s.patch_t,
          .stride_f = s.stride_f,
          .stride_t = s.stride_t,
          .grid_f = s.grid_f,
          .grid_t = s.grid_t,
          .table_t = s.table(),
          .time_offset = s.offset,
          .kept = s.kept};
}

template <class T>
struct PatchOutputs {
  std::vector<T> y;
  PatchArrays<T> grad;
};

/// The definition, in double, one cell at a time. Gradients are added to `start`. `r` rounds
/// whatever a program would store on its way.
template <class Round>
PatchOutputs<double> patch_reference(const PatchData& d, double start, Round r) {
  const PatchCase& s = d.size;
  const PatchArrays<double>& p = d.params;
  const auto zeros = [](const std::vector<double>& v) { return std::vector<double>(v.size()); };
  PatchOutputs<double> out{zeros(d.dy),
                           {zeros(p.weight), zeros(p.bias), zeros(p.cls), zeros(p.dist),
                            zeros(p.prefix), zeros(p.freq), zeros(p.time)}};
  PatchArrays<double>& g = out.grad;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t c = 0; c < s.width; ++c) {
      const std::int64_t first = b * s.tokens() * s.width + c;
      out.y[first] = r(p.cls[c] + p.prefix[c]);
      out.y[first + s.width] = r(p.dist[c] + p.prefix[s.width + c]);
      g.cls[c] += d.dy[first];
      g.prefix[c] += d.dy[first];
      g.dist[c] += d.dy[first + s.width];
      g.prefix[s.width + c] += d.dy[first + s.width];
      for (std::int64_t i = 0; i < s.kept; ++i) {
        const std::int32_t cell = d.keep[(s.per_sample ? b * s.kept : 0) + i];
        const std::int64_t f = cell / s.grid_t, t = cell % s.grid_t;
        const std::int64_t at = first + (2 + i) * s.width;
        const double dy = d.dy[at];
        double sum = p.bias[c];
        for (std::int64_t k = 0; k < s.area(); ++k) {
          const double v = d.x[(b * s.mels() + f * s.stride_f + k / s.patch_t) * s.frames() +
                               t * s.stride_t + k % s.patch_t];
          sum += p.weight[c * s.area() + k] * v;
          g.weight[c * s.area() + k] += dy * v;
        }
        sum = r(r(sum) + p.time[c * s.table() + s.offset + t]);
        out.y[at] = r(sum + p.freq[c * s.grid_f + f]);
        g.bias[c] += dy;
        g.freq[c * s.grid_f + f] += dy;
        g.time[c * s.table() + s.offset + t] += dy;
      }
    }
  }
  for (auto* values : {&g.weight, &g.bias, &g.cls, &g.dist, &g.prefix, &g.freq, &g.time}) {
    for (double& v : *values) v = r(start + r(v));
  }
  return out;
}

}  // namespace onpa::kernels
