// What reducing gradients costs a training step of passt-s, to be run under mpirun: the ranks take
// steps that reduce and steps that do not in turn, each on its share of the cores, so that both see
// the same machine. Prints JSON as Google Benchmark does.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "bench/passt_step.h"
#include "dist/ddp.h"
#include "dist/mpi.h"
#include "kernels/cpu/parallel.h"
#include "nn/optim.h"
#include "tensor/autograd.h"

namespace onpa::dist {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 9;

class Steps {
 public:
  explicit Steps(Comm& comm)
      : comm_(comm),
        step_(nn::PasstConfig::preset("passt-s"), 1),
        optimizer_({}, step_.params),
        ddp_(comm, step_.params) {
    ddp_.broadcast();
  }

  double reduced() {
    return slowest([&] {
      ddp_.backward(step_.loss());
      ddp_.wait();
      update(1.0f / static_cast<float>(comm_.size()));
    });
  }

  // The weights of the ranks stay equal: all have the same inputs.
  double alone() {
    return slowest([&] {
      onpa::backward(step_.loss());
      step_.params.finish_grad();
      update(1);
    });
  }

  double reduction_alone() {
    return slowest([&] {
      std::vector<Work> works;
      for (const Bucket& b : ddp_.buckets()) {
        works.push_back(comm_.start_all_reduce(step_.params.grad().slice(b.begin, b.end)));
      }
      for (Work& work : works) work.wait();
    });
  }

  double megabytes() const { return 1e-6 * static_cast<double>(step_.params.grad().byte_count()); }

 private:
  void update(float scale) { optimizer_.step(1e-5f, scale); }

  // Milliseconds of the slowest rank.
  template <class Work>
  double slowest(const Work& work) {
    comm_.barrier();
    const auto begin = Clock::now();
    work();
    const double took = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    const Tensor most = Tensor::full({1}, took, DType::kF64);
    comm_.all_reduce(most, ReduceOp::kMax);
    return most.span<double>()[0];
  }

  Comm& comm_;
  bench::PasstStep step_;
  nn::Optimizer optimizer_;
  Ddp ddp_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void run(Comm& comm) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int threads = std::max(1, cores / comm.size());
  kernels::set_thread_count(threads);
  Steps steps(comm);
  steps.reduced();  // learns the order of the buckets
  steps.alone();
  std::vector<double> with, without, over, reduction;
  for (int round = 0; round < kRounds; ++round) {
    const bool first = round % 2 == 0;
    if (first) with.push_back(steps.reduced());
    without.push_back(steps.alone());
    if (!first) with.push_back(steps.reduced());
    over.push_back(with.back() / without.back());
    reduction.push_back(steps.reduction_alone());
  }
  if (comm.rank() != 0) return;
  const std::string name = "passt_s_step/ranks:" + std::to_string(comm.size());
  const nlohmann::json row = {{"run_name", name},
                              {"name", name},
                              {"aggregate_name", "median"},
                              {"real_time", median(with)},
                              {"time_unit", "ms"},
                              {"without_reduction_ms", median(without)},
                              {"ratio", median(over)},
                              {"ratio_most", *std::max_element(over.begin(), over.end())},
                              {"reduction_alone_ms", median(reduction)},
                              {"gradient_mb", steps.megabytes()},
                              {"threads_a_rank", threads}};
  std::printf("%s\n", nlohmann::json({{"benchmarks", {row}}}).dump(1).c_str());
}

}  // namespace
}  // namespace onpa::dist

int main() {
  onpa::dist::run_mpi(onpa::dist::run, [](const std::exception& error, int rank) {
    std::fprintf(stderr, "bench_ranks_step: rank %d: %s\n", rank, error.what());
  });
  return 0;
}
