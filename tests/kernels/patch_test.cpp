#include "kernels/patch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <ostream>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/philox.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::normal_values;

struct Case {
  std::int64_t batch, width, patch_f, patch_t, stride_f, stride_t, grid_f, grid_t, kept;
  std::int64_t offset = 0;  // of the time table
  bool per_sample = false;  // a set of kept cells for each sample
  std::int64_t mels() const { return (grid_f - 1) * stride_f + patch_f + 1; }
  std::int64_t frames() const { return (grid_t - 1) * stride_t + patch_t + 3; }
  std::int64_t table() const { return offset + grid_t + 2; }
  std::int64_t tokens() const { return kept + 2; }
  friend std::ostream& operator<<(std::ostream& out, const Case& s) {
    return out << "batch " << s.batch << " width " << s.width << " grid " << s.grid_f << " x "
               << s.grid_t << " kept " << s.kept;
  }
};
const Case kCases[] = {{1, 1, 1, 1, 1, 1, 1, 1, 1},
                       {2, 7, 3, 5, 2, 3, 4, 6, 11, 1},
                       {2, 17, 16, 16, 10, 10, 2, 3, 6},
                       {3, 24, 4, 4, 4, 4, 5, 31, 131, 4, true},
                       {1, 40, 2, 3, 1, 2, 12, 60, 700}};

// `kept` random cells per set, ascending.
std::vector<std::int32_t> random_cells(const Case& s) {
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

// Parameters and their gradients in one struct of arrays; gradients start at `initial`.
template <class T>
struct Arrays {
  std::vector<T> weight, bias, cls, dist, prefix, freq, time;
};
template <class T>
Arrays<T> parameters(const Case& s) {
  return {normal_values<T>(s.width * s.patch_f * s.patch_t, 1),
          normal_values<T>(s.width, 2),
          normal_values<T>(s.width, 3),
          normal_values<T>(s.width, 4),
          normal_values<T>(2 * s.width, 5),
          normal_values<T>(s.width * s.grid_f, 6),
          normal_values<T>(s.width * s.table(), 7)};
}

template <class T>
PatchInput<T> input(const Case& s, const std::vector<T>& x, const std::vector<std::int32_t>& keep) {
  return {.x = x.data(),
          .keep = keep.data(),
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
std::vector<T> forward(const Case& s, const std::vector<std::int32_t>& keep) {
  const Arrays<T> p = parameters<T>(s);
  const auto x = normal_values<T>(s.batch * s.mels() * s.frames(), 8);
  std::vector<T> y(static_cast<std::size_t>(s.batch * s.tokens() * s.width), T{777});
  patch_tokens_fwd<T>(Cpu{}, {.in = input(s, x, keep),
                              .weight = p.weight.data(),
                              .bias = p.bias.data(),
                              .cls = p.cls.data(),
                              .dist = p.dist.data(),
                              .prefix_pos = p.prefix.data(),
                              .freq_pos = p.freq.data(),
                              .time_pos = p.time.data(),
                              .y = y.data()});
  return y;
}

template <class T>
Arrays<T> backward(const Case& s, const std::vector<std::int32_t>& keep, GradMode mode) {
  const Arrays<T> p = parameters<T>(s);
  Arrays<T> g;
  const auto like = [](const std::vector<T>& v) { return std::vector<T>(v.size(), T{1}); };
  g = {like(p.weight), like(p.bias), like(p.cls), like(p.dist),
       like(p.prefix), like(p.freq), like(p.time)};
  const auto x = normal_values<T>(s.batch * s.mels() * s.frames(), 8);
  const auto dy = normal_values<T>(s.batch * s.tokens() * s.width, 10);
  patch_tokens_bwd<T>(Cpu{}, {.in = input(s, x, keep),
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
  return g;
}

// The definition, in double: outputs and, with `dy`, gradients, one cell at a time.
void define(const Case& s, const std::vector<std::int32_t>& keep, std::vector<double>* y,
            Arrays<double>* g) {
  const Arrays<double> p = parameters<double>(s);
  const auto x = normal_values<double>(s.batch * s.mels() * s.frames(), 8);
  const auto dy = normal_values<double>(s.batch * s.tokens() * s.width, 10);
  const std::int64_t area = s.patch_f * s.patch_t;
  y->assign(static_cast<std::size_t>(s.batch * s.tokens() * s.width), 0);
  *g = p;
  for (auto* v : {&g->weight, &g->bias, &g->cls, &g->dist, &g->prefix, &g->freq, &g->time}) {
    std::fill(v->begin(), v->end(), 0);
  }
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t c = 0; c < s.width; ++c) {
      const std::int64_t first = b * s.tokens() * s.width + c;
      (*y)[first] = p.cls[c] + p.prefix[c];
      (*y)[first + s.width] = p.dist[c] + p.prefix[s.width + c];
      g->cls[c] += dy[first];
      g->prefix[c] += dy[first];
      g->dist[c] += dy[first + s.width];
      g->prefix[s.width + c] += dy[first + s.width];
      for (std::int64_t i = 0; i < s.kept; ++i) {
        const std::int32_t cell = keep[(s.per_sample ? b * s.kept : 0) + i];
        const std::int64_t f = cell / s.grid_t, t = cell % s.grid_t;
        const std::int64_t at = first + (2 + i) * s.width;
        double sum = p.bias[c] + p.freq[c * s.grid_f + f] + p.time[c * s.table() + s.offset + t];
        for (std::int64_t k = 0; k < area; ++k) {
          const double v = x[(b * s.mels() + f * s.stride_f + k / s.patch_t) * s.frames() +
                             t * s.stride_t + k % s.patch_t];
          sum += p.weight[c * area + k] * v;
          g->weight[c * area + k] += dy[at] * v;
        }
        (*y)[at] = sum;
        g->bias[c] += dy[at];
        g->freq[c * s.grid_f + f] += dy[at];
        g->time[c * s.table() + s.offset + t] += dy[at];
      }
    }
  }
}

template <class T>
double worst(const std::vector<T>& a, const std::vector<double>& b, double shift = 0) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, size = 1;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i] - shift));
    size = std::max(size, std::abs(b[i]));
  }
  return difference / size;
}
template <class T>
double worst(const Arrays<T>& a, const Arrays<double>& b, double shift = 0) {
  return std::max({worst(a.weight, b.weight, shift), worst(a.bias, b.bias, shift),
                   worst(a.cls, b.cls, shift), worst(a.dist, b.dist, shift),
                   worst(a.prefix, b.prefix, shift), worst(a.freq, b.freq, shift),
                   worst(a.time, b.time, shift)});
}

TEST(PatchKernel, DoubleMatchesTheDefinition) {
  for (const Case& s : kCases) {
    const auto keep = random_cells(s);
    std::vector<double> y;
    Arrays<double> g;
    define(s, keep, &y, &g);
    EXPECT_LT(worst(forward<double>(s, keep), y), 1e-13) << s;
    EXPECT_LT(worst(backward<double>(s, keep, GradMode::kAssign), g), 1e-12) << s;
    EXPECT_LT(worst(backward<double>(s, keep, GradMode::kAccumulate), g, 1), 1e-12) << s;
  }
}

// Sums of up to 256 products forward and of up to 700 terms backward, each rounded at 6e-8 of the
// running sum: sqrt(700) * 6e-8 = 1.6e-6 expected, 5e-6 allowed.
TEST(PatchKernel, FloatIsNearTheDefinition) {
  for (const Case& s : kCases) {
    const auto keep = random_cells(s);
    std::vector<double> y;
    Arrays<double> g;
    define(s, keep, &y, &g);
    EXPECT_LT(worst(forward<float>(s, keep), y), 5e-6) << s;
    EXPECT_LT(worst(backward<float>(s, keep, GradMode::kAssign), g), 5e-6) << s;
  }
}

TEST(PatchKernel, CellsThatNothingUsesGetExactlyZero) {
  const Case s{2, 5, 2, 2, 2, 2, 3, 4, 2, 1};
  const std::vector<std::int32_t> keep = {1, 6};  // (0, 1) and (1, 2)
  const Arrays<float> g = backward<float>(s, keep, GradMode::kAssign);
  for (std::int64_t c = 0; c < s.width; ++c) {
    EXPECT_EQ(g.freq[c * 3 + 2], 0.0f);
    EXPECT_NE(g.freq[c * 3 + 1], 0.0f);
    for (std::int64_t t = 0; t < s.table(); ++t) {
      const bool used = t == 1 + 1 || t == 1 + 2;
      EXPECT_EQ(g.time[c * s.table() + t] != 0.0f, used) << "column " << t;
    }
  }
}

TEST(PatchKernel, BitsDoNotDependOnThreads) {
  const int before = thread_count();
  const Case s = kCases[4];
  const auto keep = random_cells(s);
  set_thread_count(1);
  const auto y = forward<float>(s, keep);
  const auto g = backward<float>(s, keep, GradMode::kAssign);
  for (const int threads : {2, 5}) {
    set_thread_count(threads);
    EXPECT_EQ(forward<float>(s, keep), y);
    const auto many = backward<float>(s, keep, GradMode::kAssign);
    EXPECT_EQ(many.weight, g.weight);
    EXPECT_EQ(many.bias, g.bias);
    EXPECT_EQ(many.freq, g.freq);
    EXPECT_EQ(many.time, g.time);
  }
  set_thread_count(before);
}

}  // namespace
}  // namespace onpa::kernels
