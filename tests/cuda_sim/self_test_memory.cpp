// AddressSanitizer and UndefinedBehaviorSanitizer name the line, block and thread of accesses that
// a GPU would let pass.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/vec.cuh"

namespace onpa {
namespace {

// Four elements per thread, n of them: the last vector must not reach past the end.
__global__ void store_past_end_kernel(float* y, int n) {
  const int i = 4 * static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const float v[4] = {1, 2, 3, 4};
  gpu::store16(y + i, v);
}

// A row per thread, of a block of rows that is larger than what is left.
__global__ void rows_past_end_kernel(float* y, int rows, bool check) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (check && row >= rows) return;
  y[row] = 1;
}

__global__ void copy_past_end_kernel(const bf16* x, int n, bool check) {
  GPU_SHARED(tile, bf16[32 * 8]);
  const int i = 8 * static_cast<int>(threadIdx.x);
  gpu::cp_async16(&tile[i], &x[i], !check || i < n);
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
}

__global__ void static_overflow_kernel(int n) {
  GPU_SHARED(row, float[32]);
  row[static_cast<int>(threadIdx.x) + n] = 0;
}

__global__ void carved_overflow_kernel(float* y, int n) {
  GPU_DYN_SHARED(memory);
  gpu::Carver carve{memory};
  float* first = carve.take<float>(32);
  float* second = carve.take<float>(32);
  second[threadIdx.x] = 0;
  first[static_cast<int>(threadIdx.x) + n] = 0;
  y[threadIdx.x] = second[threadIdx.x];
}

__global__ void dynamic_overflow_kernel(int n) {
  GPU_DYN_SHARED(memory);
  memory[static_cast<int>(threadIdx.x) + n] = 0;
}

__global__ void misaligned_kernel(float* y, int offset) {
  const float v[4] = {};
  gpu::store16(y + offset, v);
}

__global__ void deep_kernel(int* y, int n) {
  volatile int local[64];
  for (int i = 0; i < 64; ++i) local[i] = i;
  y[threadIdx.x] = local[n];
}

// AddressSanitizer's message comes before the simulator's.
std::string in(const char* kernel, const char* what) {
  return std::string(what) + "(.|\n)*" + kernel +
         "(.|\n)*self_test_memory.cpp:[0-9]+(.|\n)*CUDA simulator:\n  in block \\(";
}
// UndefinedBehaviorSanitizer's comes after it.
std::string undefined_in(const char* kernel, const char* what) {
  return std::string("CUDA simulator:\n  in block \\((.|\n)*") + what + "(.|\n)*" + kernel +
         "(.|\n)*self_test_memory.cpp:[0-9]+";
}

// The same launches are right with right arguments, so that it is the bug that is found.
TEST(CudaSimMemoryDeathTest, VectorStorePastTheEnd) {
  std::vector<float> y(30);
  EXPECT_DEATH(gpu::launch(store_past_end_kernel, 1, 32, 0, nullptr, y.data(), 30),
               in("store_past_end_kernel", "heap-buffer-overflow"));
  gpu::launch(store_past_end_kernel, 1, 32, 0, nullptr, y.data(), 28);
}

TEST(CudaSimMemoryDeathTest, RowsPastTheEnd) {
  std::vector<float> y(40);
  EXPECT_DEATH(
      gpu::launch(rows_past_end_kernel, 2, 32, 0, nullptr, y.data(), 40, false),
      in("rows_past_end_kernel", "heap-buffer-overflow") + "1, 0, 0\\) thread \\(8, 0, 0\\)");
  gpu::launch(rows_past_end_kernel, 2, 32, 0, nullptr, y.data(), 40, true);
}

TEST(CudaSimMemoryDeathTest, CopyFromPastTheEnd) {
  const std::vector<bf16> x(20 * 8);
  EXPECT_DEATH(gpu::launch(copy_past_end_kernel, 1, 32, 0, nullptr, x.data(), 20 * 8, false),
               in("copy_past_end_kernel", "heap-buffer-overflow"));
  gpu::launch(copy_past_end_kernel, 1, 32, 0, nullptr, x.data(), 20 * 8, true);
}

TEST(CudaSimMemoryDeathTest, SharedArray) {
  EXPECT_DEATH(gpu::launch(static_overflow_kernel, 1, 32, 0, nullptr, 1),
               undefined_in("static_overflow_kernel", "index 32 out of bounds"));
  gpu::launch(static_overflow_kernel, 1, 32, 0, nullptr, 0);
}

TEST(CudaSimMemoryDeathTest, OnePartOfDynamicSharedMemoryIntoTheNext) {
  std::vector<float> y(32);
  EXPECT_DEATH(gpu::launch(carved_overflow_kernel, 1, 32, 256, nullptr, y.data(), 1),
               in("carved_overflow_kernel", "use-after-poison"));
  gpu::launch(carved_overflow_kernel, 1, 32, 256, nullptr, y.data(), 0);
}

TEST(CudaSimMemoryDeathTest, DynamicSharedMemoryPastTheLaunch) {
  EXPECT_DEATH(gpu::launch(dynamic_overflow_kernel, 1, 32, 100, nullptr, 69),
               in("dynamic_overflow_kernel", "use-after-poison"));
  gpu::launch(dynamic_overflow_kernel, 1, 32, 100, nullptr, 68);
}

TEST(CudaSimMemoryDeathTest, MisalignedVector) {
  alignas(16) float y[8];
  EXPECT_DEATH(gpu::launch(misaligned_kernel, 1, 1, 0, nullptr, y, 1),
               undefined_in("misaligned_kernel", "misaligned address"));
  gpu::launch(misaligned_kernel, 1, 1, 0, nullptr, y, 4);
}

TEST(CudaSimMemoryDeathTest, LocalArray) {
  std::vector<int> y(64);
  EXPECT_DEATH(gpu::launch(deep_kernel, 1, 64, 0, nullptr, y.data(), 64),
               undefined_in("deep_kernel", "index 64 out of bounds"));
  gpu::launch(deep_kernel, 1, 64, 0, nullptr, y.data(), 63);
}

}  // namespace
}  // namespace onpa
