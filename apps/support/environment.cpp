#include "apps/support/environment.h"

#include <fmt/core.h>
#include <hwy/highway.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "kernels/cpu/parallel.h"
#include "onpa_version.h"
#include "tensor/device.h"

extern "C" {
#include <libavutil/avutil.h>
}

namespace onpa::apps {
namespace {

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string simd_target() {
  const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(targets & -targets);  // the lowest bit is the best one
}

// The GPU that `--device auto` would take, or why there is none.
std::string device_name() {
  const std::string problem = cuda_problem();
  return problem.empty() ? cuda_device().name : "cpu (" + problem + ")";
}

}  // namespace

std::string version_line() {
  return fmt::format("onpa {} (commit {})", kVersion, kCommit);
}

std::vector<std::pair<std::string, std::string>> describe_environment() {
  utsname system{};
  uname(&system);
  const double gib = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                     static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1 << 30);
  return {
      {"version", kVersion},
      {"commit", kCommit},
      {"compiler", __VERSION__},
      {"cpu", cpu_name()},
      {"simd", simd_target()},
      {"cores", std::to_string(std::thread::hardware_concurrency())},
      {"threads", std::to_string(kernels::thread_count())},
      {"memory_gib", fmt::format("{:.1f}", gib)},
      {"device", device_name()},
      {"ffmpeg", av_version_info()},
      {"highway", fmt::format("{}.{}", HWY_MAJOR, HWY_MINOR)},
      {"host", system.nodename},
      {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
  };
}

std::string environment_json() {
  nlohmann::ordered_json out;
  for (const auto& [name, value] : describe_environment()) out[name] = value;
  return out.dump(2, ' ', false, decltype(out)::error_handler_t::replace);
}

}  // namespace onpa::apps
