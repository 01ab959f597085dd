#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "tensor/storage.h"

namespace onpa {
namespace {

TEST(Shape, ExtentsAndErrors) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.numel(), 30);
  EXPECT_EQ(shape.rows(), 6);
  EXPECT_EQ(shape[-1], 5);
  EXPECT_EQ(shape.with(-2, 7), (Shape{2, 7, 5}));
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_EQ((Shape{4, 0}).numel(), 0);
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  EXPECT_THROW((void)shape[3], Error);
  EXPECT_THROW(shape.with(0, -1), Error);
  EXPECT_THROW((Shape{-1}), Error);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), Error);
}

TEST(TensorHandle, CopiesShareAndClonesDoNot) {
  const Tensor x = Tensor::full({4}, 1.0), same = x, copy = x.clone();
  same.data<float>()[2] = 5;
  EXPECT_EQ(x.to_vector<float>(), (std::vector<float>{1, 1, 5, 1}));
  EXPECT_EQ(copy.to_vector<float>(), (std::vector<float>{1, 1, 1, 1}));
  EXPECT_EQ(x.storage_use_count(), 2);
  EXPECT_FALSE(Tensor().defined());
}

TEST(TensorHandle, ASliceOfASliceKeepsItsPlace) {
  const Tensor x = Tensor::from<std::int32_t>({6}, {0, 1, 2, 3, 4, 5});
  const Tensor inner = x.slice(1, 5).view({2, 2}).slice(1, 2);
  EXPECT_EQ(inner.shape(), (Shape{1, 2}));
  EXPECT_EQ(inner.to_vector<std::int32_t>(), (std::vector<std::int32_t>{3, 4}));
  inner.copy_from(Tensor::from<std::int32_t>({1, 2}, {30, 40}));
  EXPECT_EQ(x.to_vector<std::int32_t>(), (std::vector<std::int32_t>{0, 1, 2, 30, 40, 5}));
}

TEST(TensorHandle, ViewsKeepMemoryAliveAndForgetHistory) {
  Tensor x = Tensor::full({8}, 3.0);
  x.set_requires_grad();
  const Tensor view = x.slice(6, 8);
  x = {};
  EXPECT_EQ(view.to_vector<float>(), (std::vector<float>{3, 3}));
  EXPECT_FALSE(view.requires_grad());
}

TEST(TensorHandle, MismatchIsAnError) {
  const Tensor x = Tensor::zeros({2, 3});
  EXPECT_THROW(x.copy_from(Tensor::zeros({3, 2})), Error);
  EXPECT_THROW(x.copy_from(Tensor::zeros({2, 3}, DType::kF64)), Error);
  EXPECT_THROW(Tensor::from<float>({2}, {1.0f}), Error);
  EXPECT_THROW(Tensor().data<float>(), Error);
  EXPECT_THROW(Tensor::zeros({1}, DType::kI32).to(DType::kF32), Error);
}

TEST(TensorHandle, EmptyTensorsAreUsable) {
  const Tensor x = Tensor::zeros({0, 3});
  EXPECT_TRUE(x.defined());
  EXPECT_TRUE(x.to_vector<float>().empty());
  EXPECT_EQ(x.clone().shape(), (Shape{0, 3}));
  EXPECT_EQ(x.slice(0, 0).numel(), 0);
}

TEST(TensorHandle, MemoryIsAligned) {
  for (const std::int64_t n : {0, 1, 17, 1000}) {
    const Tensor x = Tensor::empty({n});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.bytes()) % 64, 0u);
  }
}

TEST(Memory, LiveBytesFollowTheTensors) {
  const std::size_t before = memory_stats().live_bytes;
  {
    const Tensor x = Tensor::empty({1 << 20});
    EXPECT_GE(memory_stats().live_bytes, before + (std::size_t{4} << 20));
    EXPECT_GE(memory_stats().peak_bytes, before + (std::size_t{4} << 20));
  }
  EXPECT_EQ(memory_stats().live_bytes, before);
  reset_peak_memory();
  EXPECT_EQ(memory_stats().peak_bytes, before);
  release_cached_memory();
  EXPECT_EQ(memory_stats().cached_bytes, 0u);
}

TEST(Memory, LargeBlocksStartOnAHugePage) {
  release_cached_memory();
  constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
  const Tensor large = Tensor::empty({kHugePage / 4 + 1});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large.data<float>()) % kHugePage, 0u);
  // The block ends where it was asked to end, whatever its last huge page has room for.
  EXPECT_LT(memory_stats().live_bytes, static_cast<std::size_t>(kHugePage) * 5 / 4);
}

TEST(Memory, AnImpossibleSizeIsReported) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer's allocator aborts on such a size";
#endif
  try {
    Tensor::empty({std::int64_t{1} << 58});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kOutOfMemory);
  }
}

}  // namespace
}  // namespace onpa
