#include "apps/benchmark/bench_comm.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string_view>

#include "kernels/error.h"
#include "tensor/device.h"

namespace onpa::apps {
namespace {

constexpr std::int64_t kSmallestBytes = 1024;
constexpr std::int64_t kGrowth = 4;
constexpr std::int64_t kLeastRepetitions = 5, kMostRepetitions = 2000;
constexpr std::int64_t kCopyBytes = std::int64_t{64} << 20;  // beyond every cache

Tensor zeros(std::int64_t bytes, DeviceKind device) {
  return Tensor::zeros({bytes / 4}, DType::kF32, device);
}

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double largest_of_all(dist::Comm& comm, double value) {
  const Tensor x = Tensor::from<double>({1}, {value});
  comm.all_reduce(x, dist::ReduceOp::kMax);
  return x.data<double>()[0];
}

// The same number of repetitions on every rank, which the slowest one's first try decides.
CommTime time_collective(dist::Comm& comm, std::int64_t bytes, double seconds,
                         const std::function<void()>& work) {
  work();  // connections, scratch memory
  comm.barrier();
  const double once = largest_of_all(comm, seconds_of(work));
  const auto wanted = static_cast<std::int64_t>(seconds / std::max(once, 1e-9));
  CommTime out{.bytes = bytes,
               .repetitions = std::clamp(wanted, kLeastRepetitions, kMostRepetitions)};
  std::vector<double> times;
  for (std::int64_t i = 0; i < out.repetitions; ++i) {
    comm.barrier();
    times.push_back(seconds_of(work));
  }
  const Tensor all = Tensor::from<double>({out.repetitions}, times);
  comm.all_reduce(all, dist::ReduceOp::kMax);
  const auto span = all.span<double>();
  times.assign(span.begin(), span.end());
  std::sort(times.begin(), times.end());
  out.seconds = times[times.size() / 2];
  out.fastest_seconds = times.front();
  return out;
}

// Ranks with one name share a host. Names go around as numbers.
std::int64_t host_number() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return static_cast<std::int64_t>(std::hash<std::string_view>{}(name));
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

void describe_ranks(dist::Comm& comm, CommBenchResult& result) {
  const Tensor mine = Tensor::from<std::int64_t>({2}, {host_number(), usable_cores()});
  const Tensor all = Tensor::empty({comm.size(), 2}, DType::kI64);
  comm.all_gather(mine, all);
  std::map<std::int64_t, int> ranks;
  result.cores_a_host = std::numeric_limits<int>::max();
  for (int r = 0; r < comm.size(); ++r) {
    const std::int64_t* row = all.data<std::int64_t>() + 2 * r;
    result.most_ranks_a_host = std::max(result.most_ranks_a_host, ++ranks[row[0]]);
    result.cores_a_host = std::min(result.cores_a_host, static_cast<int>(row[1]));
  }
  result.ranks = comm.size();
  result.hosts = static_cast<int>(ranks.size());
}

// What a memory copies with all its ranks at work: those of the slowest rank, times ranks.
double copy_rate(dist::Comm& comm, const CommBenchResult& ranks, double seconds) {
  const Tensor from = zeros(kCopyBytes, ranks.device), to = zeros(kCopyBytes, ranks.device);
  const CommTime time = time_collective(comm, kCopyBytes, seconds / 2, [&] {
    copy_bytes(to.bytes(), ranks.device, from.bytes(), ranks.device,
               static_cast<std::size_t>(kCopyBytes));
    synchronize(ranks.device);
  });
  return static_cast<double>(kCopyBytes) * ranks.ranks_a_memory() / time.seconds;
}

}  // namespace

double bus_bytes(std::int64_t bytes, int ranks) {
  return 2.0 * (ranks - 1) / ranks * static_cast<double>(bytes);
}

CommBenchResult bench_comm(dist::Comm& comm, const CommBenchOptions& options) {
  ONPA_CHECK(options.most_bytes >= kSmallestBytes, "bench comm: at most ", options.most_bytes,
             " bytes, want ", kSmallestBytes, " or more");
  CommBenchResult result;
  result.device = options.device;
  describe_ranks(comm, result);
  result.copy_bytes_second = copy_rate(comm, result, options.seconds_a_size);
  const Tensor x = zeros(options.most_bytes, options.device);
  const Tensor y = zeros(options.most_bytes, options.device);
  for (std::int64_t bytes = kSmallestBytes; bytes <= options.most_bytes; bytes *= kGrowth) {
    const Tensor part = x.slice(0, bytes / 4), other = y.slice(0, bytes / 4);
    result.neighbour.push_back(time_collective(comm, bytes, options.seconds_a_size / 2, [&] {
      comm.shift(part, other);
      synchronize(options.device);
    }));
    result.all_reduce.push_back(time_collective(comm, bytes, options.seconds_a_size, [&] {
      comm.all_reduce(part);
      synchronize(options.device);
    }));
  }
  return result;
}

}  // namespace onpa::apps
