#include "kernels/gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h, which re-includes this file once per target.
#include "kernels/cpu/gemm_epilogue.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

void finish_f32(const Gemm<float>& g, const GemmTile& tile) {
  finish(g, tile);
}
void finish_f64(const Gemm<double>& g, const GemmTile& tile) {
  finish(g, tile);
}

// c += op(a) b, b (k, tile.cols) with rows `ldb` apart. Strips of columns on the outside keep a
// strip of b in cache over all rows.
void add_product_f64(const Gemm<double>& g, const GemmTile& tile, const double* b,
                     std::int64_t ldb) {
  const hn::ScalableTag<double> d;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  const bool transpose_a = g.trans_a == Trans::kYes;
  const std::int64_t row_step = transpose_a ? 1 : g.lda, k_step = transpose_a ? g.lda : 1;
  const double* a = g.a + tile.row * row_step;
  double* c = g.c + tile.row * g.ldc + tile.col;
  std::int64_t j = 0;
  for (; j + 4 * kLanes <= tile.cols; j += 4 * kLanes) {
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      double* to = c + i * g.ldc + j;
      auto s0 = hn::LoadU(d, to), s1 = hn::LoadU(d, to + kLanes),
           s2 = hn::LoadU(d, to + 2 * kLanes), s3 = hn::LoadU(d, to + 3 * kLanes);
      for (std::int64_t p = 0; p < g.k; ++p) {
        const double* line = b + p * ldb + j;
        const auto v = hn::Set(d, a[i * row_step + p * k_step]);
        s0 = hn::MulAdd(v, hn::LoadU(d, line), s0);
        s1 = hn::MulAdd(v, hn::LoadU(d, line + kLanes), s1);
        s2 = hn::MulAdd(v, hn::LoadU(d, line + 2 * kLanes), s2);
        s3 = hn::MulAdd(v, hn::LoadU(d, line + 3 * kLanes), s3);
      }
      hn::StoreU(s0, d, to);
      hn::StoreU(s1, d, to + kLanes);
      hn::StoreU(s2, d, to + 2 * kLanes);
      hn::StoreU(s3, d, to + 3 * kLanes);
    }
  }
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    for (std::int64_t p = 0; p < g.k; ++p) {
      const double v = a[i * row_step + p * k_step];
      for (std::int64_t q = j; q < tile.cols; ++q) c[i * g.ldc + q] += v * b[p * ldb + q];
    }
  }
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace onpa::kernels {
namespace {

HWY_EXPORT(finish_f32);
HWY_EXPORT(finish_f64);
HWY_EXPORT(add_product_f64);

// Below these many multiply-adds, waking a thread costs more than it saves.
constexpr std::int64_t kInlineWork = 1 << 19;
constexpr std::int64_t kMinTileWork = 1 << 20, kMaxTiles = 16;
// oneDNN's inner loops work on so many rows and columns, or divisors of that.
constexpr std::int64_t kRowUnit = 12, kColUnit = 16;

constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t d) {
  return (n + d - 1) / d;
}
// Elements of each of `parts` parts of n, a multiple of `unit`.
constexpr std::int64_t part_of(std::int64_t n, std::int64_t parts, std::int64_t unit) {
  return ceil_div(ceil_div(n, parts), unit) * unit;
}

// On AVX2 oneDNN packs operands only for results so large (`nocopy_checker` in its
// gemm_driver.cpp); for what it does not pack, a transposed left operand whose rows lie a multiple
// of 2 KiB apart takes twice the time.
bool is_packed(std::int64_t rows, std::int64_t cols) {
  return 1.0 / static_cast<double>(rows) + 1.0 / static_cast<double>(cols) < 0.0038;
}

struct Split {
  std::int64_t down = 1, across = 1;
};

// Depends on the shape alone, so that the bits of the result do not depend on the threads.
Split split_of(std::int64_t m, std::int64_t n, std::int64_t k) {
  Split split;
  if (m * n * k < kInlineWork) return split;
  std::int64_t rows = m, cols = n;
  while (split.down * split.across < kMaxTiles && rows * cols * k > kMinTileWork) {
    Split halved = split;
    (rows > cols ? halved.down : halved.across) *= 2;
    rows = part_of(m, halved.down, kRowUnit);
    cols = part_of(n, halved.across, kColUnit);
    const bool first = split.down * split.across == 1;
    if (!first && is_packed(m, n) && !is_packed(rows, cols)) break;
    split = halved;
  }
  return split;
}

template <class T>
void clear(const Gemm<T>& g, const GemmTile& tile) {
  for (std::int64_t i = tile.row; i < tile.row + tile.rows; ++i) {
    std::fill_n(g.c + i * g.ldc + tile.col, tile.cols, T{0});
  }
}

// c of the tile becomes op(a) op(b) + beta c.
void multiply(const Gemm<float>& g, const GemmTile& tile) {
  if (g.k == 0) {  // oneDNN would check operands that nobody has
    if (g.beta == 0) clear(g, tile);
    return;
  }
  const bool transpose_a = g.trans_a == Trans::kYes, transpose_b = g.trans_b == Trans::kYes;
  // oneDNN's own threads would fight ours for cores. The setting is this thread's; a caller that
  // uses OpenMP finds it as it was.
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', tile.rows, tile.cols, g.k, 1.0f,
                 g.a + (transpose_a ? tile.row : tile.row * g.lda), g.lda,
                 g.b + (transpose_b ? tile.col * g.ldb : tile.col), g.ldb, g.beta,
                 g.c + tile.row * g.ldc + tile.col, g.ldc);
  omp_set_num_threads(threads);
  if (status == dnnl_out_of_memory) fail(ExitCode::kOutOfMemory, "gemm: no memory to pack");
  ONPA_CHECK(status == dnnl_success, "gemm: oneDNN status ", static_cast<int>(status), " for m ",
             g.m, ", n ", g.n, ", k ", g.k, ", lda ", g.lda, ", ldb ", g.ldb, ", ldc ", g.ldc);
}

void multiply(const Gemm<double>& g, const GemmTile& tile) {
  thread_local std::vector<double> columns;
  const double* b = g.b + tile.col;
  std::int64_t ldb = g.ldb;
  if (g.trans_b == Trans::kYes) {
    columns.resize(static_cast<std::size_t>(g.k * tile.cols));
    for (std::int64_t j = 0; j < tile.cols; ++j) {
      const double* from = g.b + (tile.col + j) * g.ldb;
      for (std::int64_t p = 0; p < g.k; ++p) columns[p * tile.cols + j] = from[p];
    }
    b = columns.data();
    ldb = tile.cols;
  }
  if (g.beta == 0) clear(g, tile);
  HWY_DYNAMIC_DISPATCH(add_product_f64)(g, tile, b, ldb);
}

void finish(const Gemm<float>& g, const GemmTile& tile) {
  HWY_DYNAMIC_DISPATCH(finish_f32)(g, tile);
}
void finish(const Gemm<double>& g, const GemmTile& tile) {
  HWY_DYNAMIC_DISPATCH(finish_f64)(g, tile);
}

}  // namespace

// c is cut into tiles. One thread works out a tile, the epilogue right after the product, while the
// tile is in its cache.
template <class T>
void gemm(Cpu, const Gemm<T>& args) {
  if (args.m == 0 || args.n == 0) return;
  Gemm<T> g = args;
  if (g.residual != nullptr && g.residual == g.c) {
    // The product would overwrite it. Without an activation it is the same as beta = 1.
    ONPA_CHECK(g.activation == Activation::kNone && g.pre_activation == nullptr && g.beta == 0,
               "gemm: a residual in place wants no activation, no pre_activation and beta 0");
    g.residual = nullptr;
    g.beta = 1;
  }
  const Split split = split_of(g.m, g.n, g.k);
  const std::int64_t rows = part_of(g.m, split.down, kRowUnit),
                     cols = part_of(g.n, split.across, kColUnit), across = ceil_div(g.n, cols),
                     tiles = ceil_div(g.m, rows) * across;
  parallel_for(tiles, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / across * rows, col = i % across * cols;
      const GemmTile tile{.row = row,
                          .rows = std::min(rows, g.m - row),
                          .col = col,
                          .cols = std::min(cols, g.n - col)};
      multiply(g, tile);
      finish(g, tile);
    }
  });
}

template void gemm<float>(Cpu, const Gemm<float>&);
template void gemm<double>(Cpu, const Gemm<double>&);

}  // namespace onpa::kernels

#endif  // HWY_ONCE
