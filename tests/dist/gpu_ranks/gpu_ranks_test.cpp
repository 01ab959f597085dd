// Ranks with a GPU each, run as test_dist_ranks (see ranks.cmake): NCCL, or in the simulator its
// stand-in. `MODE` says what goes wrong on rank 1.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dist/launch.h"
#include "dist/nccl.h"
#include "kernels/scalar.h"
#include "tensor/device.h"
#include "tensor/device_step.h"
#include "tests/dist/comm_checks.h"
#include "tests/dist/rank_main.h"
#include "tests/dist/train_checks.h"
#ifdef ONPA_CUDA_SIM
#include "tests/cuda_sim/device.h"
#endif
#include "tests/support/gradcheck.h"

namespace onpa::dist {
namespace {

using testing::Training;

Comm* control = nullptr;
std::unique_ptr<Comm> gpus;

// Of whole numbers, whose sums no order of adding changes (in bf16 up to 256).
Tensor values_of(int rank, std::int64_t n, DType dtype) {
  const Tensor x = Tensor::empty({n}, DType::kF32);
  for (std::int64_t i = 0; i < n; ++i) {
    x.data<float>()[i] = static_cast<float>((i * 7 + rank * 13) % 41 - 20);
  }
  if (dtype == DType::kBF16) return x.to(DeviceKind::kCuda).to(dtype);
  const Tensor out = Tensor::empty({n}, dtype);
  for (std::int64_t i = 0; i < n; ++i) {
    const float v = x.data<float>()[i];
    if (dtype == DType::kF32) out.data<float>()[i] = v;
    if (dtype == DType::kF64) out.data<double>()[i] = v;
    if (dtype == DType::kI64) out.data<std::int64_t>()[i] = static_cast<std::int64_t>(v);
  }
  return out.to(DeviceKind::kCuda);
}

std::vector<double> host_values(const Tensor& x) {
  const Tensor wide = x.dtype() == DType::kBF16 ? x.to(DType::kF32) : x;
  const Tensor host = wide.to(DeviceKind::kCpu);
  std::vector<double> out;
  for (std::int64_t i = 0; i < host.numel(); ++i) {
    out.push_back(host.dtype() == DType::kF32 ? host.data<float>()[i]
                  : host.dtype() == DType::kF64
                      ? host.data<double>()[i]
                      : static_cast<double>(host.data<std::int64_t>()[i]));
  }
  return out;
}

std::vector<double> reduced(std::int64_t n, DType dtype, ReduceOp op) {
  std::vector<double> out = host_values(values_of(0, n, dtype));
  for (int rank = 1; rank < gpus->size(); ++rank) {
    const auto x = host_values(values_of(rank, n, dtype));
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = op == ReduceOp::kSum ? out[i] + x[i] : std::max(out[i], x[i]);
    }
  }
  return out;
}

class GpuRanksOf : public ::testing::TestWithParam<DType> {};

TEST_P(GpuRanksOf, Values) {
  const DType dtype = GetParam();
  const int rank = gpus->rank(), size = gpus->size();
  for (const std::int64_t n : {0, 1, 7, 1023, 5003}) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
      const Tensor x = values_of(rank, n, dtype);
      gpus->all_reduce(x, op);
      EXPECT_EQ(host_values(x), reduced(n, dtype, op)) << "all_reduce of " << n;
      const Tensor all = values_of(rank, n * size, dtype);
      const Tensor part = Tensor::empty({n}, dtype, DeviceKind::kCuda);
      gpus->reduce_scatter(all, part, op);
      const auto whole = reduced(n * size, dtype, op);
      EXPECT_EQ(host_values(part),
                std::vector<double>(whole.begin() + rank * n, whole.begin() + (rank + 1) * n))
          << "reduce_scatter of " << n;
    }
    const Tensor x = values_of(rank, n, dtype);
    gpus->broadcast(x, size - 1);
    EXPECT_EQ(host_values(x), host_values(values_of(size - 1, n, dtype))) << "broadcast of " << n;
    const Tensor all = Tensor::zeros({size * n}, dtype, DeviceKind::kCuda);
    gpus->all_gather(values_of(rank, n, dtype), all);
    const auto got = host_values(all);
    for (int other = 0; other < size; ++other) {
      EXPECT_EQ(std::vector<double>(got.begin() + other * n, got.begin() + (other + 1) * n),
                host_values(values_of(other, n, dtype)))
          << "all_gather of " << n << ", block " << other;
    }
    const Tensor shifted = Tensor::zeros({n}, dtype, DeviceKind::kCuda);
    gpus->shift(values_of(rank, n, dtype), shifted);
    EXPECT_EQ(host_values(shifted), host_values(values_of((rank + size - 1) % size, n, dtype)))
        << "shift of " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GpuRanksOf,
                         ::testing::Values(DType::kF32, DType::kF64, DType::kBF16, DType::kI64),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// Those on the CPU go by the other Comm, with its order of sums.
TEST(GpuRanks, TensorsOnTheCpu) {
  testing::check_values(*gpus);
  testing::check_started_together(*gpus);
}

// Sums of numbers whose order of adding shows: not by rank, but the same bits everywhere.
TEST(GpuRanks, SumsHaveTheSameBitsOnAllRanks) {
  const auto rank = static_cast<std::uint64_t>(gpus->rank());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = onpa::testing::random_normal({5003}, rank + 1, 1, DType::kF32)
                         .to(DeviceKind::kCuda)
                         .to(dtype);
    gpus->all_reduce(x);
    const Tensor host = x.to(DType::kF32).to(DeviceKind::kCpu);
    testing::expect_same_on_all_ranks(*control, host.to_vector<float>());
  }
}

// Between kernels that are queued: nothing here waits on the host before the end.
TEST(GpuRanks, RunsInTheOrderOfTheStream) {
  const std::int64_t n = 1000;
  const Tensor source = values_of(gpus->rank(), n, DType::kF32);
  const Tensor x = Tensor::empty({n}, DType::kF32, DeviceKind::kCuda);
  const Tensor y = Tensor::empty({n}, DType::kF32, DeviceKind::kCuda);
  x.copy_from(source);
  Work work = gpus->start_all_reduce(x);
  work.wait();
  y.copy_from(x);
  x.zero();
  EXPECT_EQ(host_values(y), reduced(n, DType::kF32, ReduceOp::kSum));
  EXPECT_TRUE(work.done());
  work.wait();
}

TEST(GpuRanks, WhatNobodyWaitsForEndsWithItsValues) {
  std::vector<Tensor> kept;
  for (int i = 0; i < 20; ++i) {
    const Tensor x = values_of(gpus->rank(), 300 + i, DType::kF32);
    static_cast<void>(gpus->start_all_reduce(x));
    if (i % 2 == 0) kept.push_back(x);
  }
  gpus->barrier();
  for (const Tensor& x : kept) {
    EXPECT_EQ(host_values(x), reduced(x.numel(), DType::kF32, ReduceOp::kSum));
  }
}

TEST(GpuRanks, Groups) {
  std::vector<Tensor> tensors;
  std::vector<Work> works;
  gpus->begin_group();
  for (int i = 0; i < 5; ++i) {
    tensors.push_back(values_of(gpus->rank(), 100 + i, DType::kF32));
    works.push_back(gpus->start_all_reduce(tensors.back()));
  }
  EXPECT_THROW(works[0].wait(), Error);
  gpus->end_group();
  for (int i = 5; i-- > 0;) {
    works[i].wait();
    EXPECT_EQ(host_values(tensors[i]), reduced(100 + i, DType::kF32, ReduceOp::kSum));
  }
  gpus->begin_group();  // of nothing
  gpus->end_group();
}

// Planned, queued one by one, captured, and replayed with other values.
TEST(GpuRanks, AreCapturedWithTheStepAroundThem) {
  const std::int64_t n = 777;
  const Tensor in = Tensor::empty({n}, DType::kF32, DeviceKind::kCuda);
  const Tensor out = Tensor::empty({n}, DType::kF32, DeviceKind::kCuda);
  DeviceStep step([&] {
    const Tensor x = Tensor::empty({n}, DType::kF32, DeviceKind::kCuda);
    const Tensor y = Tensor::empty({n}, DType::kF32, DeviceKind::kCuda);
    x.copy_from(in);
    y.copy_from(in);
    Work one = gpus->start_all_reduce(x), other = gpus->start_all_reduce(y, ReduceOp::kMax);
    out.zero();  // beside them
    one.wait();
    out.copy_from(x);
    other.wait();
  });
  for (int run = 0; run < 4; ++run) {
    in.copy_from(values_of(gpus->rank() + run, n, DType::kF32));
    step.run();
    std::vector<double> want(static_cast<std::size_t>(n));
    for (int rank = 0; rank < gpus->size(); ++rank) {
      const auto x = host_values(values_of(rank + run, n, DType::kF32));
      for (std::size_t i = 0; i < want.size(); ++i) want[i] += x[i];
    }
    EXPECT_EQ(host_values(out), want) << "run " << run;
  }
}

// Sums of a step in f32 are those of the CPU but for their order.
TEST(GpuRanks, TrainToTheWeightsOfOneRank) {
  const std::vector<float> alone = testing::train_alone();
  for (Training training : {Training{}, Training{.micro_batches = 3}, Training{.captured = true},
                            Training{.micro_batches = 3, .captured = true}}) {
    training.device = DeviceKind::kCuda;
    const auto weights = testing::train(*gpus, training);
    EXPECT_LE(testing::largest_difference(weights, alone), 2e-6) << "rank " << gpus->rank();
    testing::expect_same_on_all_ranks(*control, weights);
  }
}

// bf16 keeps 8 bits: the weights come near those of f32 after ten steps, and are the same bits
// whether a graph is replayed or not.
TEST(GpuRanks, TrainInBf16) {
  const std::vector<float> alone = testing::train_alone();
  std::vector<float> before;
  for (const bool captured : {false, true}) {
    const auto weights = testing::train(
        *gpus, {.device = DeviceKind::kCuda, .dtype = DType::kBF16, .captured = captured});
    EXPECT_LE(testing::largest_difference(weights, alone), 0.02) << "rank " << gpus->rank();
    testing::expect_same_on_all_ranks(*control, weights);
    if (captured) {
      EXPECT_EQ(weights, before);
    }
    before = weights;
  }
}

TEST(GpuRanks, Refusals) {
  const Tensor wrong = Tensor::empty({3}, DType::kI32, DeviceKind::kCuda);
  EXPECT_THROW(gpus->all_reduce(wrong), Error);
  gpus->begin_group();
  EXPECT_THROW(gpus->begin_group(), Error);
  gpus->end_group();
  EXPECT_THROW(gpus->start_all_reduce(Tensor()), Error);
}

void take_part(int times) {
  const Tensor x = Tensor::zeros({10}, DType::kF32, DeviceKind::kCuda);
  for (int i = 0; i < times; ++i) gpus->all_reduce(x);
  synchronize(DeviceKind::kCuda);
}

// One more element on rank 1, which the ranks compare at first and leave to NCCL later.
void disagree(int before) {
  take_part(before);
  const Tensor x = Tensor::zeros({gpus->rank() == 1 ? 11 : 10}, DType::kF32, DeviceKind::kCuda);
  gpus->all_reduce(x);
  synchronize(DeviceKind::kCuda);
}

void go_wrong(const std::string& how) {
  if (how == "disagree") return disagree(2);
  if (how == "disagree_late") return disagree(100);
  take_part(how == "gpu_gone" ? 100 : 2);
  if (gpus->rank() == 1) {
    if (how == "throw") fail(ExitCode::kBadData, "row 7 is empty");
    if (how == "abort") gpus->abort(17);
    if (how == "kill") raise(SIGKILL);
    // Alive, but what it had on its GPU is gone.
    if (how == "gpu_gone") {
      try {
        const std::unique_ptr<Comm> gone = std::move(gpus);
        fail(ExitCode::kDevice, "a fault of the GPU");
      } catch (const Error&) {
        std::this_thread::sleep_for(std::chrono::seconds(60));
      }
    }
  }
  take_part(1);
}

// What keeps ranks from joining their GPUs.
void fail_to_join(const std::string& how) {
#ifdef ONPA_CUDA_SIM
  if (how == "no_such_gpu") sim::device_options().count = 2;
  if (how == "same_gpu") sim::device_options().bus = "0000:17:00.0";
#endif
  // Hears the id of the others, and is not seen again.
  if (how == "absent" && control->rank() == 1) {
    use_gpu_of_rank(*control, 1);
    control->broadcast(Tensor::zeros({17}, DType::kI64));
    std::this_thread::sleep_for(std::chrono::seconds(60));
  }
}

int run(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  fail_to_join(how);
  use_gpu_of_rank(*control, launch_from_environment().local_rank);
  gpus = make_nccl_comm(*control, how == "absent" ? 2 : 20);
  struct End {
    ~End() { gpus.reset(); }
  } end;
  if (how.empty()) return RUN_ALL_TESTS();
  go_wrong(how);
  return 0;
}

}  // namespace
}  // namespace onpa::dist

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return onpa::dist::testing::run_ranks([&](onpa::dist::Comm& ranks) {
    onpa::dist::control = &ranks;
    return onpa::dist::run(argc, argv);
  });
}
