// cp.async, ldmatrix and mma against a plain product.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/vec.cuh"
#include "tests/cuda/schedules.h"

namespace onpa {
namespace {

using testing::for_schedules;

constexpr int kDepth = 64, kStep = 16;

// One warp: y (16 x 8) = a (16 x kDepth, row-major) b (kDepth x 8, row-major), in steps of 16
// columns, each copied while the one before it is multiplied. The rows of a step's two tiles are
// kPitch elements apart: 24 (48 bytes) puts eight of them into different banks, 32 does not.
template <int kPitch>
__global__ void product_kernel(float* y, const bf16* a, const bf16* b) {
  GPU_SHARED(a_tiles, bf16[2][16 * kPitch]);
  GPU_SHARED(b_tiles, bf16[2][16 * kPitch]);
  const int lane = static_cast<int>(threadIdx.x);
  const auto copy = [&](int step) {
    bf16* a_tile = a_tiles[step % 2];
    bf16* b_tile = b_tiles[step % 2];
    const int row = lane / 2, half = lane % 2 * 8;
    gpu::cp_async16(&a_tile[row * kPitch + half], &a[row * kDepth + step * kStep + half]);
    // b has 8 columns: the other half of each row is filled with zeros.
    gpu::cp_async16(&b_tile[row * kPitch + half], &b[(step * kStep + row) * 8], half == 0);
    gpu::cp_async_commit();
  };
  float d[4] = {};
  copy(0);
  for (int step = 0; step < kDepth / kStep; ++step) {
    if (step + 1 < kDepth / kStep) {
      copy(step + 1);
      gpu::cp_async_wait<1>();
    } else {
      gpu::cp_async_wait<0>();
    }
    __syncthreads();
    std::uint32_t ra[4], rb[4];
    const int row = lane % 16, column = lane / 16 * 8;
    gpu::ldmatrix_x4(ra, &a_tiles[step % 2][row * kPitch + column]);
    gpu::ldmatrix_x4_trans(rb, &b_tiles[step % 2][row * kPitch + column]);
    gpu::mma_bf16(d, ra, rb[0], rb[1]);
    __syncthreads();
  }
  const int g = lane / 4, t = lane % 4;
  y[g * 8 + 2 * t] = d[0], y[g * 8 + 2 * t + 1] = d[1];
  y[(g + 8) * 8 + 2 * t] = d[2], y[(g + 8) * 8 + 2 * t + 1] = d[3];
}

std::vector<bf16> values(std::size_t n, unsigned seed) {
  std::vector<bf16> v(n);
  for (bf16& x : v) {
    seed = seed * 1664525 + 1013904223;
    x = bf16(static_cast<float>(seed >> 16) / 32768 - 1);
  }
  return v;
}

template <int kPitch>
void check_product() {
  const std::vector<bf16> a = values(16 * kDepth, 1), b = values(kDepth * 8, 2);
  std::vector<float> y(16 * 8);
  gpu::launch(product_kernel<kPitch>, 1, 32, 0, nullptr, y.data(), a.data(), b.data());
  for (std::size_t m = 0; m < 16; ++m) {
    for (std::size_t n = 0; n < 8; ++n) {
      double want = 0;
      for (std::size_t k = 0; k < kDepth; ++k) {
        want += static_cast<double>(static_cast<float>(a[m * kDepth + k])) *
                static_cast<double>(static_cast<float>(b[k * 8 + n]));
      }
      ASSERT_NEAR(y[m * 8 + n], want, 1e-5) << m << ", " << n;
    }
  }
}

TEST(CudaSimTensorCore, ProductOfTilesCopiedAhead) {
  for_schedules(check_product<24>);
}

TEST(CudaSimTensorCore, LdmatrixCountsBankReplays) {
  sim::stats() = {};
  check_product<24>();
  EXPECT_EQ(sim::stats().ldmatrix, 8u);
  EXPECT_EQ(sim::stats().ldmatrix_replays, 0u);
  // Rows 128 bytes apart are all in one bank: 7 more accesses for each of the 4 matrices.
  sim::stats() = {};
  check_product<64>();
  EXPECT_EQ(sim::stats().ldmatrix_replays, 8u * 4 * 7);
}

__global__ void convert_kernel(float* out, const float* in) {
  const std::uint32_t word = gpu::pack_bf16(in[0], in[1]);
  const float2 pair = gpu::unpack_bf16(word);
  out[0] = pair.x, out[1] = pair.y;
  out[2] = gpu::fast_exp2(in[2]), out[3] = gpu::fast_exp2(-200.0f), out[4] = gpu::fast_exp2(in[3]);
}

TEST(CudaSimTensorCore, Conversions) {
  const float in[] = {1.00390625f, -3.0f, 0.5f, NAN};  // 1 + 2^-8: a tie, goes to even
  float out[5];
  gpu::launch(convert_kernel, 1, 1, 0, nullptr, out, in);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -3.0f);
  EXPECT_NEAR(out[2], std::sqrt(2.0f), 1e-6f);
  EXPECT_EQ(out[3], 0.0f);
  EXPECT_TRUE(std::isnan(out[4]));
}

}  // namespace
}  // namespace onpa
