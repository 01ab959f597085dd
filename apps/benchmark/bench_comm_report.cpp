// What `onpa bench comm` says.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/benchmark/bench_comm.h"
#include "apps/support/environment.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::ordered_json;

// Shares of the expected speed: what an all_reduce that nothing disturbs reaches, and below what
// something is wrong.
constexpr double kGoodShare = 0.5, kPoorShare = 0.25;

std::string size_text(std::int64_t bytes) {
  if (bytes >= 1 << 20) return fmt::format("{} MiB", bytes >> 20);
  return fmt::format("{} KiB", bytes >> 10);
}

std::string time_text(double seconds) {
  if (seconds >= 1) return fmt::format("{:.2f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.2f} ms", 1e3 * seconds);
  return fmt::format("{:.1f} us", 1e6 * seconds);
}

std::string rate_text(double bytes_second) {
  return fmt::format("{:.2f} GB/s", bytes_second / 1e9);
}

// The fastest repetition counts: others were disturbed.
double neighbour_rate(const CommTime& time) {
  return static_cast<double>(time.bytes) / time.fastest_seconds;
}
double bus_rate(const CommTime& time, int ranks) {
  return bus_bytes(time.bytes, ranks) / time.fastest_seconds;
}

// Of the largest transfer, which no cache holds.
double network_rate(const CommBenchResult& r) {
  return neighbour_rate(r.neighbour.back());
}

}  // namespace

double expected_seconds(const CommBenchResult& r, std::size_t size) {
  const std::int64_t bytes = r.all_reduce[size].bytes;
  const double sent = bus_bytes(bytes, r.ranks) / neighbour_rate(r.neighbour[size]);
  // A rank reads its share of all ranks and writes it once; a copy reads and writes.
  const double moved = static_cast<double>(bytes) * (1 + 1.0 / r.ranks) * r.ranks_a_memory();
  return sent + moved / (2 * r.copy_bytes_second);
}

CommVerdict comm_verdict(const CommBenchResult& r) {
  CommVerdict verdict;
  const CommTime& largest = r.all_reduce.back();
  const double expected = expected_seconds(r, r.all_reduce.size() - 1);
  verdict.share = expected / largest.fastest_seconds;
  const std::string figures =
      fmt::format("{} take {}, expected {} ({:.0f} % of that speed)", size_text(largest.bytes),
                  time_text(largest.fastest_seconds), time_text(expected), 100 * verdict.share);
  if (verdict.share >= kGoodShare) {
    verdict.text = "good: " + figures;
    return verdict;
  }
  verdict.text = (verdict.share >= kPoorShare ? "fair: " : "poor: ") + figures;
  if (r.most_ranks_a_host > r.cores_a_host) {
    verdict.causes.push_back(
        fmt::format("{} ranks share {} cores of a host: they wait for each other",
                    r.most_ranks_a_host, r.cores_a_host));
  } else if (r.cores_a_host == 1 && r.device == DeviceKind::kCpu) {
    verdict.causes.push_back(
        "each rank is bound to one core, which carries the collectives out too: --bind-to none");
  }
  if (r.device == DeviceKind::kCuda) {
    verdict.causes.push_back("what NCCL took, and why: NCCL_DEBUG=INFO");
    if (r.hosts > 1) {
      verdict.causes.push_back("a slow network: NCCL_SOCKET_IFNAME, NCCL_IB_HCA");
      verdict.causes.push_back("data go through host memory: nvidia-peermem is not loaded");
    } else {
      verdict.causes.push_back("GPUs without NVLink between them: nvidia-smi topo -m");
      verdict.causes.push_back("a small /dev/shm in a container: --shm-size=1g");
    }
  } else if (r.hosts > 1) {
    verdict.causes.push_back("MPI took a slow network: --mca btl_tcp_if_include IFACE, or UCX");
    verdict.causes.push_back("another job uses the same links or switches");
  } else {
    verdict.causes.push_back("ranks on one host go through TCP, not memory: --mca btl self,vader");
    verdict.causes.push_back("ranks lie on distant memory: --bind-to numa --map-by numa");
  }
  verdict.causes.push_back("something else runs on these hosts: see their load");
  return verdict;
}

std::string comm_bench_text(const CommBenchResult& r) {
  std::string out =
      fmt::format("{} ranks on {} host{}, {}; {} ranks and {} cores a host\n", r.ranks, r.hosts,
                  r.hosts == 1 ? "" : "s", r.backend, r.most_ranks_a_host, r.cores_a_host);
  out += fmt::format("memory copy  {} by {}\n", rate_text(r.copy_bytes_second),
                     r.device == DeviceKind::kCpu ? "all ranks of a host at once" : "each GPU");
  out += fmt::format("network      {} from every rank to the next at once\n\n",
                     rate_text(network_rate(r)));
  out += fmt::format("{:>8}  {:>10}  {:>11}  {:>10}  {:>11}  {:>10}  {:>5}\n", "size", "all_reduce",
                     "bus", "neighbour", "rate", "expected", "share");
  for (std::size_t i = 0; i < r.all_reduce.size(); ++i) {
    const CommTime& reduce = r.all_reduce[i];
    const CommTime& shift = r.neighbour[i];
    const double expected = expected_seconds(r, i);
    out += fmt::format("{:>8}  {:>10}  {:>11}  {:>10}  {:>11}  {:>10}  {:>3.0f} %\n",
                       size_text(reduce.bytes), time_text(reduce.fastest_seconds),
                       rate_text(bus_rate(reduce, r.ranks)), time_text(shift.fastest_seconds),
                       rate_text(neighbour_rate(shift)), time_text(expected),
                       100 * expected / reduce.fastest_seconds);
  }
  const CommVerdict verdict = comm_verdict(r);
  out += "\n" + verdict.text + "\n";
  if (!verdict.causes.empty()) out += "usual causes:\n";
  for (const std::string& cause : verdict.causes) out += "  " + cause + "\n";
  return out;
}

std::string comm_bench_json(const CommBenchResult& r) {
  const auto times = [&](const std::vector<CommTime>& all, bool reduce) {
    Json out = Json::array();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const CommTime& time = all[i];
      out.push_back({{"bytes", time.bytes},
                     {"seconds", time.seconds},
                     {"fastest_seconds", time.fastest_seconds},
                     {"repetitions", time.repetitions},
                     {reduce ? "bus_bytes_per_second" : "bytes_per_second",
                      reduce ? bus_rate(time, r.ranks) : neighbour_rate(time)}});
      if (reduce) out.back()["expected_seconds"] = expected_seconds(r, i);
    }
    return out;
  };
  const CommVerdict verdict = comm_verdict(r);
  return Json{{"ranks", r.ranks},
              {"hosts", r.hosts},
              {"most_ranks_a_host", r.most_ranks_a_host},
              {"cores_a_host", r.cores_a_host},
              {"backend", r.backend},
              {"device", r.device == DeviceKind::kCpu ? "cpu" : "cuda"},
              {"copy_bytes_per_second", r.copy_bytes_second},
              {"network_bytes_per_second", network_rate(r)},
              {"all_reduce", times(r.all_reduce, true)},
              {"neighbour", times(r.neighbour, false)},
              {"share_of_expected", verdict.share},
              {"verdict", verdict.text},
              {"usual_causes", verdict.causes},
              {"environment", Json::parse(environment_json())}}
             .dump(2) +
         "\n";
}

}  // namespace onpa::apps
