#include "kernels/gemm.h"

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "dnnl.h"
#include "kernels/activation.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace onpa::kernels {
namespace {

// Tiles of c are fixed by the shape, so results do not depend on the number of threads. A tile is
// large enough to amortise packing and small enough that its epilogue still finds it in the L2
// cache.
constexpr std::int64_t kTileRows = 192, kTileCols = 768, kMinTileRows = 32, kWantedTiles = 8;

struct Tile {
  std::int64_t row, rows, col, cols;
};

template <class T>
const T* at(const T* base, Trans trans, std::int64_t ld, std::int64_t row, std::int64_t col) {
  return trans == Trans::kNo ? base + row * ld + col : base + col * ld + row;
}

void multiply(const Gemm<float>& g, const Tile& t, float beta) {
  // oneDNN threads through OpenMP; this thread's share of the pool is one.
  thread_local const bool one_thread = (omp_set_num_threads(1), true);
  (void)one_thread;
  const dnnl_status_t status = dnnl_sgemm(
      g.trans_a == Trans::kYes ? 'T' : 'N', g.trans_b == Trans::kYes ? 'T' : 'N', t.rows, t.cols,
      g.k, 1.0f, at(g.a, g.trans_a, g.lda, t.row, 0), g.lda, at(g.b, g.trans_b, g.ldb, 0, t.col),
      g.ldb, beta, g.c + t.row * g.ldc + t.col, g.ldc);
  ONPA_CHECK(status == dnnl_success, "gemm: oneDNN failed with status ", status, " for (", g.m,
             ", ", g.k, ") x (", g.k, ", ", g.n, ")");
}

// Serves gradient checks, where accuracy matters and speed does not.
void multiply(const Gemm<double>& g, const Tile& t, double beta) {
  for (std::int64_t i = t.row; i < t.row + t.rows; ++i) {
    double* c = g.c + i * g.ldc;
    for (std::int64_t j = t.col; j < t.col + t.cols; ++j) c[j] = beta == 0 ? 0 : beta * c[j];
    for (std::int64_t p = 0; p < g.k; ++p) {
      const double a = *at(g.a, g.trans_a, g.lda, i, p);
      for (std::int64_t j = t.col; j < t.col + t.cols; ++j)
        c[j] += a * *at(g.b, g.trans_b, g.ldb, p, j);
    }
  }
}

template <class T>
void finish(const Gemm<T>& g, const Tile& t) {
  for (std::int64_t i = t.row; i < t.row + t.rows; ++i) {
    const std::int64_t offset = i * g.ldc + t.col;
    T* c = g.c + offset;
    if (g.bias != nullptr) {
      const T* bias = g.bias + t.col;
      for (std::int64_t j = 0; j < t.cols; ++j) c[j] += bias[j];
    }
    if (g.activation != Activation::kNone) {
      if (g.pre_activation != nullptr) std::copy(c, c + t.cols, g.pre_activation + offset);
      activation_fwd<T>(Cpu{}, {.x = c, .y = c, .n = t.cols, .activation = g.activation});
    } else if (g.pre_activation != nullptr) {
      std::copy(c, c + t.cols, g.pre_activation + offset);
    }
    if (g.residual != nullptr) {
      const T* residual = g.residual + offset;
      for (std::int64_t j = 0; j < t.cols; ++j) c[j] += residual[j];
    }
  }
}

}  // namespace

template <class T>
void gemm(Cpu, const Gemm<T>& g) {
  if (g.m == 0 || g.n == 0) return;
  // A residual that is c itself would be overwritten by the product: it is the same as beta = 1
  // only without an activation.
  const bool in_place = g.residual == g.c && g.residual != nullptr;
  ONPA_CHECK(!in_place || (g.activation == Activation::kNone && g.beta == 0),
             "gemm: a residual in place wants no activation and beta 0");
  const T beta = in_place ? T{1} : g.beta;
  Gemm<T> plain = g;
  if (in_place) plain.residual = nullptr;
  const bool epilogue =
      plain.bias || plain.activation != Activation::kNone || plain.residual || plain.pre_activation;

  const std::int64_t tile_rows =
      std::clamp((g.m + kWantedTiles - 1) / kWantedTiles + 15, kMinTileRows, kTileRows) / 16 * 16;
  const std::int64_t down = (g.m + tile_rows - 1) / tile_rows;
  const std::int64_t across = (g.n + kTileCols - 1) / kTileCols;
  parallel_for(down * across, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / across * tile_rows, col = i % across * kTileCols;
      const Tile tile{row, std::min(tile_rows, g.m - row), col, std::min(kTileCols, g.n - col)};
      if (g.k > 0) {
        multiply(plain, tile, beta);
      } else if (beta == 0) {
        for (std::int64_t r = 0; r < tile.rows; ++r)
          std::fill_n(g.c + (row + r) * g.ldc + col, tile.cols, T{0});
      }
      if (epilogue) finish(plain, tile);
    }
  });
}

template void gemm<float>(Cpu, const Gemm<float>&);
template void gemm<double>(Cpu, const Gemm<double>&);

}  // namespace onpa::kernels
