#include <fmt/core.h>

#include <cstdio>
#include <memory>
#include <string>

#include "apps/benchmark/bench_comm.h"
#include "apps/commands/commands.h"
#include "apps/support/compute_device.h"
#include "dist/launch.h"
#include "dist/nccl.h"
#include "kernels/error.h"
#include "tensor/device.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

// Where the tensors are, the same for all ranks.
DeviceKind device_of_all(dist::Comm& comm, const std::string& device) {
  const bool gpu = use_gpu(device) && (device == "cuda" || dist::has_nccl());
  const Tensor either = Tensor::from<std::int64_t>({2}, {gpu, !gpu});
  comm.all_reduce(either, dist::ReduceOp::kMax);
  if (either.data<std::int64_t>()[0] != 0 && either.data<std::int64_t>()[1] != 0) {
    fail(ExitCode::kDevice, gpu ? "other ranks have no GPU" : cuda_problem(),
         "; with --device cpu tensors are in memory of the CPU");
  }
  return gpu ? DeviceKind::kCuda : DeviceKind::kCpu;
}

void measure(dist::Comm& comm, const BenchArgs& args, const dist::Launch& launch) {
  if (comm.rank() == 0) {
    if (!args.json.empty()) io::require_room(args.json, 0);
  }
  CommBenchOptions options{.most_bytes = args.most_mib << 20};
  options.device = device_of_all(comm, args.device);
  std::unique_ptr<dist::Comm> gpus;
  std::string backend = launch.by == dist::Launch::By::kTcp ? "TCP" : "MPI";
  if (options.device == DeviceKind::kCuda) {
    dist::use_gpu_of_rank(comm, launch.local_rank);
    gpus = dist::make_nccl_comm(comm);
    backend = "NCCL over " + backend;
  }
  CommBenchResult result = bench_comm(gpus ? *gpus : comm, options);
  result.backend = backend;
  if (comm.rank() != 0) return;
  fmt::print("{}", comm_bench_text(result));
  if (args.json.empty()) return;
  const io::FaultScope faults(io::FileKind::kRun);
  io::write_file_atomic(args.json, comm_bench_json(result));
}

}  // namespace

int run_bench_comm(const BenchArgs& args) {
  if (!args.config.file.empty() || !args.config.set.empty() || !args.trace.empty() || args.steps ||
      args.warmup || !args.precision.empty()) {
    fail(ExitCode::kUsage, "bench comm takes --device, --json and --most-mib alone");
  }
  const dist::Launch launch = dist::launch_from_environment();
  if (launch.size < 2) {
    fail(ExitCode::kUsage,
         "bench comm measures what several ranks do together, and this is one; start it as "
         "mpirun -np 4 --bind-to none onpa bench comm");
  }
  dist::run_from_environment([&](dist::Comm& comm) { measure(comm, args, launch); },
                             [](const std::exception& error, int rank) {
                               std::fprintf(stderr, "onpa: rank %d: %s\n", rank, error.what());
                             });
  return 0;
}

}  // namespace onpa::apps
