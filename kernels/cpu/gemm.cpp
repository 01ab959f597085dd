#include "kernels/gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h, which re-includes this file once per target.
#include "kernels/cpu/gemm_tile.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

void pack_columns_f32(const Gemm<float>& g, std::int64_t col, std::int64_t cols, std::int64_t k,
                      std::int64_t depth, float* to) {
  pack_columns(g, col, cols, k, depth, to);
}
void pack_columns_f64(const Gemm<double>& g, std::int64_t col, std::int64_t cols, std::int64_t k,
                      std::int64_t depth, double* to) {
  pack_columns(g, col, cols, k, depth, to);
}
void multiply_block_f32(const Gemm<float>& g, const GemmBlock& block, const float* columns,
                        float* rows_scratch) {
  multiply_block(g, block, columns, rows_scratch);
}
void multiply_block_f64(const Gemm<double>& g, const GemmBlock& block, const double* columns,
                        double* rows_scratch) {
  multiply_block(g, block, columns, rows_scratch);
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>

#include "hwy/aligned_allocator.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace onpa::kernels {
namespace {

HWY_EXPORT(pack_columns_f32);
HWY_EXPORT(pack_columns_f64);
HWY_EXPORT(multiply_block_f32);
HWY_EXPORT(multiply_block_f64);

void pack_columns(const Gemm<float>& g, std::int64_t col, std::int64_t cols, std::int64_t k,
                  std::int64_t depth, float* to) {
  HWY_DYNAMIC_DISPATCH(pack_columns_f32)(g, col, cols, k, depth, to);
}
void pack_columns(const Gemm<double>& g, std::int64_t col, std::int64_t cols, std::int64_t k,
                  std::int64_t depth, double* to) {
  HWY_DYNAMIC_DISPATCH(pack_columns_f64)(g, col, cols, k, depth, to);
}
void multiply_block(const Gemm<float>& g, const GemmBlock& block, const float* columns,
                    float* rows_scratch) {
  HWY_DYNAMIC_DISPATCH(multiply_block_f32)(g, block, columns, rows_scratch);
}
void multiply_block(const Gemm<double>& g, const GemmBlock& block, const double* columns,
                    double* rows_scratch) {
  HWY_DYNAMIC_DISPATCH(multiply_block_f64)(g, block, columns, rows_scratch);
}

constexpr std::int64_t kDepthStep = 256;           // a panel of b that deep is half of an L1 cache
constexpr std::int64_t kPackedDepth = 1536;        // depths of b packed at a time
constexpr std::int64_t kPackedElements = 5 << 18;  // elements of b packed at a time: stays in L3
constexpr std::int64_t kMinBlockRows = 48, kMaxBlockRows = 120, kMinBlockCols = 192;
constexpr std::int64_t kWantedBlocks = 16;
// Below these many multiply-adds, or elements packed, waking a thread costs more than it saves.
constexpr std::int64_t kInlineWork = 1 << 19, kInlinePacking = 1 << 15;

constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t d) {
  return (n + d - 1) / d;
}
constexpr std::int64_t round_up(std::int64_t n, std::int64_t unit) {
  return ceil_div(n, unit) * unit;
}
// The length of the equal parts, multiples of `unit`, that n splits into when none may be over
// `most`.
std::int64_t part_of(std::int64_t n, std::int64_t most, std::int64_t unit) {
  return round_up(ceil_div(n, std::max<std::int64_t>(1, ceil_div(n, most))), unit);
}

// Aligned memory that a thread keeps between calls.
template <class T>
T* scratch(hwy::AlignedFreeUniquePtr<T[]>& memory, std::int64_t& capacity, std::int64_t wanted) {
  if (wanted > capacity) {
    memory = hwy::AllocateAligned<T>(static_cast<std::size_t>(wanted));
    capacity = wanted;
  }
  return memory.get();
}
template <class T>
T* columns_scratch(std::int64_t wanted) {
  thread_local hwy::AlignedFreeUniquePtr<T[]> memory;
  thread_local std::int64_t capacity = 0;
  return scratch(memory, capacity, wanted);
}
template <class T>
T* rows_scratch(std::int64_t wanted) {
  thread_local hwy::AlignedFreeUniquePtr<T[]> memory;
  thread_local std::int64_t capacity = 0;
  return scratch(memory, capacity, wanted);
}

// Adds depths [part.k, part.k + part.depth) to columns [part.col, part.col + part.cols) of c: b is
// packed once by all threads, then each block of c belongs to one thread.
template <class T>
void multiply_columns(const Gemm<T>& g, const GemmBlock& part) {
  T* packed = columns_scratch<T>(round_up(part.cols, kColUnit) * part.depth);
  const std::int64_t units = ceil_div(part.cols, kColUnit);
  const auto pack = [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t col = begin * kColUnit, last = std::min(end * kColUnit, part.cols);
    pack_columns(g, part.col + col, last - col, part.k, part.depth, packed + col * part.depth);
  };
  parallel_for(units, part.cols * part.depth < kInlinePacking ? units : 2, pack);

  const std::int64_t block_rows =
      std::clamp(round_up(ceil_div(g.m, kWantedBlocks), kRowUnit), kMinBlockRows, kMaxBlockRows);
  const std::int64_t down = ceil_div(g.m, block_rows);
  const std::int64_t block_cols =
      std::max(kMinBlockCols, round_up(ceil_div(part.cols * down, kWantedBlocks), kColUnit));
  const std::int64_t across = ceil_div(part.cols, block_cols);
  const bool small = g.m * part.cols * part.depth < kInlineWork;
  parallel_for(down * across, small ? down * across : 1, [&](std::int64_t begin, std::int64_t end) {
    T* rows = rows_scratch<T>(block_rows * part.depth_step);
    for (std::int64_t i = begin; i < end; ++i) {
      GemmBlock block = part;
      block.row = i / across * block_rows;
      block.rows = std::min(block_rows, g.m - block.row);
      const std::int64_t offset = i % across * block_cols;
      block.col = part.col + offset;
      block.cols = std::min(block_cols, part.cols - offset);
      multiply_block(g, block, packed + offset * part.depth, rows);
    }
  });
}

}  // namespace

// Goto and van de Geijn's scheme: blocks of b packed for the L3 cache, of a for L2, a panel of b
// in L1, sums in registers. Each element is summed in the same order, blocks of k that depend on k
// alone, wherever it lies and however many threads there are.
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
  const std::int64_t depth_step = std::max<std::int64_t>(1, part_of(g.k, kDepthStep, 1));
  const std::int64_t depth = std::max<std::int64_t>(1, part_of(g.k, kPackedDepth, depth_step));
  const std::int64_t cols =
      part_of(g.n, std::max(kColUnit, kPackedElements / depth / kColUnit * kColUnit), kColUnit);
  for (std::int64_t col = 0; col < g.n; col += cols) {
    for (std::int64_t k = 0; k == 0 || k < g.k; k += depth) {
      multiply_columns(g, {.row = 0,
                           .rows = g.m,
                           .col = col,
                           .cols = std::min(cols, g.n - col),
                           .k = k,
                           .depth = std::min(depth, g.k - k),
                           .depth_step = depth_step});
    }
  }
}

template void gemm<float>(Cpu, const Gemm<float>&);
template void gemm<double>(Cpu, const Gemm<double>&);

}  // namespace onpa::kernels

#endif  // HWY_ONCE
