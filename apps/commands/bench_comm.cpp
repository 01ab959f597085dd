#include <fmt/core.h>

#include <cstdio>

#include "apps/benchmark/bench_comm.h"
#include "apps/commands/commands.h"
#include "dist/launch.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

const char* backend_of(const dist::Launch& launch) {
  return launch.by == dist::Launch::By::kTcp ? "TCP" : "MPI";
}

void measure(dist::Comm& comm, const BenchArgs& args, const char* backend) {
  if (comm.rank() == 0) {
    if (!args.json.empty()) io::require_room(args.json, 0);
  }
  CommBenchResult result = bench_comm(comm, {.most_bytes = args.most_mib << 20});
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
    fail(ExitCode::kUsage, "bench comm takes --json and --most-mib alone");
  }
  const dist::Launch launch = dist::launch_from_environment();
  if (launch.size < 2) {
    fail(ExitCode::kUsage,
         "bench comm measures what several ranks do together, and this is one; start it as "
         "mpirun -np 4 --bind-to none onpa bench comm");
  }
  dist::run_from_environment([&](dist::Comm& comm) { measure(comm, args, backend_of(launch)); },
                             [](const std::exception& error, int rank) {
                               std::fprintf(stderr, "onpa: rank %d: %s\n", rank, error.what());
                             });
  return 0;
}

}  // namespace onpa::apps
