#include "tensor/memory_plan.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "tensor/autograd.h"
#include "tensor/device.h"
#include "tensor/ops/linear.h"
#include "tensor/ops/math.h"
#include "tensor/tensor.h"

namespace onpa {
namespace {

Tensor block(std::int64_t bytes) {
  return Tensor::empty({bytes / 4}, DType::kF32, DeviceKind::kCuda);
}

void expect_disjoint(const MemoryPlan& plan) {
  const auto& blocks = plan.blocks();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(blocks[i].offset % 256, 0u);
    EXPECT_LE(blocks[i].offset + blocks[i].bytes, plan.bytes());
    for (std::size_t j = 0; j < i; ++j) {
      const bool together = blocks[i].begin < blocks[j].end && blocks[j].begin < blocks[i].end;
      const bool overlap = blocks[i].offset < blocks[j].offset + blocks[j].bytes &&
                           blocks[j].offset < blocks[i].offset + blocks[i].bytes;
      EXPECT_FALSE(together && overlap) << "blocks " << j << " and " << i;
    }
  }
}

TEST(MemoryPlan, ReusesWhatIsReleased) {
  const MemoryPlan plan = MemoryPlan::make([] {
    std::optional<Tensor> a = block(4096);
    const Tensor b = block(1024);
    a.reset();
    const Tensor c = block(4096);  // a's place
  });
  ASSERT_EQ(plan.blocks().size(), 3u);
  expect_disjoint(plan);
  EXPECT_EQ(plan.bytes(), 4096u + 1024u);
  EXPECT_EQ(plan.peak_bytes(), 4096u + 1024u);
  EXPECT_EQ(plan.blocks()[0].offset, plan.blocks()[2].offset);
}

TEST(MemoryPlan, BlocksThatOutliveTheStepStayToItsEnd) {
  std::vector<Tensor> kept;
  const MemoryPlan plan = MemoryPlan::make([&] {
    kept.push_back(block(512));
    block(512);
    block(512);
  });
  expect_disjoint(plan);
  EXPECT_EQ(plan.bytes(), 1024u);
}

TEST(MemoryPlan, PeakIsToldByCategory) {
  const MemoryPlan plan = MemoryPlan::make([] {
    const MemoryCategory activations("activations");
    const Tensor a = block(2048);
    const MemoryCategory scratch("scratch");
    block(512);
    block(1024);
  });
  const auto by = plan.peak_by_category();
  ASSERT_EQ(by.size(), 2u);
  EXPECT_EQ(by[0], (std::pair<std::string, std::size_t>("activations", 2048)));
  EXPECT_EQ(by[1], (std::pair<std::string, std::size_t>("scratch", 1024)));
  EXPECT_EQ(plan.peak_bytes(), 3072u);
}

// Random lives: placed without overlap and not far above the least possible.
TEST(MemoryPlan, PlacesRandomLivesWithoutOverlap) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    unsigned state = seed;
    const auto next = [&state](unsigned n) {
      state = state * 1664525u + 1013904223u;
      return (state >> 8) % n;
    };
    const MemoryPlan plan = MemoryPlan::make([&] {
      std::vector<Tensor> alive;
      for (int i = 0; i < 60; ++i) {
        if (!alive.empty() && next(2) == 0) {
          alive.erase(alive.begin() + next(static_cast<unsigned>(alive.size())));
        } else {
          alive.push_back(block(256 * (1 + next(16))));
        }
      }
    });
    expect_disjoint(plan);
    EXPECT_GE(plan.bytes(), plan.peak_bytes());
    EXPECT_LE(plan.bytes(), plan.peak_bytes() * 3 / 2) << "seed " << seed;
  }
}

TEST(MemoryPlan, NothingIsComputedWhilePlanning) {
  if (!has_cuda_backend()) GTEST_SKIP() << "the CUDA backend sizes the workspaces";
  Tensor loss;
  const MemoryPlan plan = MemoryPlan::make([&] {
    Tensor x = Tensor::zeros({5, 3}, DType::kBF16, DeviceKind::kCuda);
    Tensor w = Tensor::full({4, 3}, 2.0, DType::kBF16, DeviceKind::kCuda);
    w.set_requires_grad();
    const Tensor y = ops::linear(x, w, {});
    loss = ops::sum(y);
    backward(loss);
    EXPECT_TRUE(w.grad().defined());
  });
  EXPECT_GE(plan.blocks().size(), 5u);
  EXPECT_FALSE(planning_memory());
}

}  // namespace
}  // namespace onpa
