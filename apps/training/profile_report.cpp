#include "apps/training/profile_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "apps/support/log.h"
#include "data/table.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tensor/device.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// Parts of [begin, end) of any of `spans` that lie in none of `others`, in seconds; `others` are
// disjoint and in order.
double outside(const std::vector<ProfileEvent>& events, ScopeKind kind,
               const std::vector<std::pair<double, double>>& others) {
  double seconds = 0;
  for (const ProfileEvent& event : events) {
    if (event.kind != kind) continue;
    seconds += event.end - event.begin;
    auto other =
        std::ranges::upper_bound(others, event.begin, {}, &std::pair<double, double>::second);
    for (; other != others.end() && other->first < event.end; ++other) {
      seconds -= std::min(event.end, other->second) - std::max(event.begin, other->first);
    }
  }
  return seconds;
}

// A rate in billions a second, of `seconds`.
double giga(double count, double seconds) {
  return seconds > 0 ? count * 1e-9 / seconds : kUnknown;
}

std::string fixed(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "-";
}
// Three significant digits without an exponent, where a rate is neither tiny nor unknown.
std::string rate(double value) {
  if (!std::isfinite(value) || value <= 0) return "-";
  return fixed(value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
}
std::string plain(double value) {
  return std::isfinite(value) ? fmt::format("{:.8g}", value) : "";
}

using Line = std::vector<std::string>;

std::string aligned(const std::vector<Line>& lines) {
  std::vector<std::size_t> width(lines.front().size(), 0);
  for (const Line& line : lines) {
    for (std::size_t c = 0; c < line.size(); ++c) width[c] = std::max(width[c], line[c].size());
  }
  std::string text;
  for (const Line& line : lines) {
    for (std::size_t c = 0; c < line.size(); ++c) {
      text += c == 0 ? fmt::format("{:<{}}", line[c], width[c])
                     : fmt::format("  {:>{}}", line[c], width[c]);
    }
    while (text.ends_with(' ')) text.pop_back();
    text += '\n';
  }
  return text;
}

std::string device_text(const Profile& profile) {
  if (profile.device == DeviceKind::kCuda) {
    return fmt::format("{} in {}", cuda_device().name, name_of(profile.dtype));
  }
  const int threads = kernels::thread_count();
  return fmt::format("the CPU ({} thread{})", threads, threads == 1 ? "" : "s");
}

Roofline limits_of(const Profile& profile) {
  try {
    return measured_roofline(profile.device, profile.dtype);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kOutOfMemory) throw;
    spdlog::warn("profile: the limits of the device could not be measured: {}", error.what());
    return {};
  }
}

}  // namespace

double ProfileTable::share_of_limit(const ProfileRow& row) const {
  const double least = limits.seconds(row.flops, row.bytes);
  return least > 0 && row.seconds > 0 && std::isfinite(least) ? least / row.seconds : kUnknown;
}

bool ProfileTable::bound_by_flops(const ProfileRow& row) const {
  return limits.seconds(row.flops, 0) > limits.seconds(0, row.bytes);
}

ProfileTable profile_table(const Profile& profile, const std::string& device,
                           const Roofline& limits) {
  ProfileTable table;
  table.device = device;
  table.limits = limits;
  if (!profile.spans.empty()) table.first_step = profile.spans.front().step;
  for (const ProfileSpan& span : profile.spans) {
    table.steps += span.count;
    table.seconds += span.end - span.begin;
  }
  std::map<std::string, ProfileRow> rows;
  std::vector<std::pair<double, double>> busy;
  for (const ProfileEvent& event : profile.events) {
    if (event.kind != ScopeKind::kOp) continue;
    ProfileRow& row = rows[event.name];
    row.op = event.name;
    ++row.calls;
    row.seconds += event.end - event.begin;
    row.flops += event.work.flops;
    row.bytes += event.work.bytes;
    table.ops_seconds += event.end - event.begin;
    busy.emplace_back(event.begin, event.end);
  }
  for (auto& [name, row] : rows) table.ops.push_back(std::move(row));
  std::ranges::stable_sort(table.ops, std::ranges::greater{}, &ProfileRow::seconds);
  // On the GPU data may be waited for while ops run, which costs nothing.
  table.wait_seconds = outside(profile.events, ScopeKind::kWait, busy);
  table.other_seconds = std::max(0.0, table.seconds - table.ops_seconds - table.wait_seconds);
  return table;
}

ProfileTable profile_table(const Profile& profile) {
  return profile_table(profile, device_text(profile), limits_of(profile));
}

std::string profile_rows_text(const ProfileTable& t) {
  std::vector<Line> lines = {
      {"op", "calls", "ms", "% time", "GFLOP/s", "GB/s", "% limit", "limit"}};
  const int digits = t.seconds < 100 ? 3 : 1;
  const auto time = [&](double seconds) {
    return Line{fixed(1e3 * seconds, digits), fixed(100 * seconds / t.seconds, 1)};
  };
  const auto other = [&](const char* name, double seconds) {
    const Line cells = time(seconds);
    lines.push_back({name, "", cells[0], cells[1]});
  };
  for (const ProfileRow& row : t.ops) {
    const double share = t.share_of_limit(row);
    const Line cells = time(row.seconds);
    const bool known = std::isfinite(share);
    lines.push_back({row.op, std::to_string(row.calls), cells[0], cells[1],
                     rate(giga(row.flops, row.seconds)), rate(giga(row.bytes, row.seconds)),
                     fixed(100 * share, 0),
                     !known                  ? "-"
                     : t.bound_by_flops(row) ? "FLOPs"
                                             : "memory"});
  }
  other("(waiting for data)", t.wait_seconds);
  other("(not in any op)", t.other_seconds);
  other("(all)", t.seconds);
  return aligned(lines);
}

std::string profile_text(const ProfileTable& t) {
  std::string text = fmt::format(
      "steps {} to {} on {}: {:.1f} ms a step\n", t.first_step, t.first_step + t.steps - 1,
      t.device, 1e3 * t.seconds / static_cast<double>(std::max<std::int64_t>(1, t.steps)));
  if (t.limits.gflops > 0) {
    text += fmt::format("limits, measured just now: {:.4g} GFLOP/s, {:.3g} GB/s of copying\n",
                        t.limits.gflops, t.limits.gigabytes_per_second);
  }
  return text + profile_rows_text(t);
}

std::string profile_csv(const ProfileTable& t) {
  std::string text =
      data::csv_line({"op", "calls", "seconds", "share_of_time", "flops", "bytes",
                      "gflops_per_second", "gigabytes_per_second", "share_of_limit", "limit"});
  for (const ProfileRow& row : t.ops) {
    const double share = t.share_of_limit(row);
    text += data::csv_line({row.op, std::to_string(row.calls), plain(row.seconds),
                            plain(row.seconds / t.seconds), plain(row.flops), plain(row.bytes),
                            plain(giga(row.flops, row.seconds)),
                            plain(giga(row.bytes, row.seconds)), plain(share),
                            !std::isfinite(share)   ? ""
                            : t.bound_by_flops(row) ? "flops"
                                                    : "memory"});
  }
  const auto other = [&](const char* name, double seconds) {
    text += data::csv_line(
        {name, "", plain(seconds), plain(seconds / t.seconds), "", "", "", "", "", ""});
  };
  other("(waiting for data)", t.wait_seconds);
  other("(not in any op)", t.other_seconds);
  other("(all)", t.seconds);
  return text;
}

// One event a line, so that a long trace can be cut and searched with the usual tools.
std::string profile_trace(const Profile& profile) {
  constexpr int kMain = 1, kLoader = 2, kGpu = 3;
  std::string text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const auto name_thread = [&](int thread, const char* name) {
    text += fmt::format(
        "{}\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{},\"name\":\"thread_name\",\"args\":{{\"name\":\"{}"
        "\"}}}}",
        thread == kMain ? "" : ",", thread, name);
  };
  name_thread(kMain, "main");
  name_thread(kLoader, "wait for loader");
  if (profile.device == DeviceKind::kCuda) name_thread(kGpu, "GPU");
  const auto add = [&](const std::string& name, const char* category, int thread, double begin,
                       double end, const std::string& args) {
    text += fmt::format(
        ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{},\"name\":\"{}\",\"cat\":\"{}\",\"ts\":{:.3f},"
        "\"dur\":{:.3f}{}}}",
        thread, name, category, 1e6 * begin, 1e6 * (end - begin), args);
  };
  for (const ProfileSpan& span : profile.spans) {
    const std::string last =
        span.count > 1 ? fmt::format(" to {}", span.step + span.count - 1) : std::string();
    add(fmt::format("step {}{}", span.step, last), "step", kMain, span.begin, span.end, "");
  }
  for (const ProfileEvent& event : profile.events) {
    if (event.kind != ScopeKind::kOp) {
      const bool wait = event.kind == ScopeKind::kWait;
      add(event.name, wait ? "wait" : "phase", wait ? kLoader : kMain, event.begin, event.end, "");
      continue;
    }
    add(event.name, "op", profile.device == DeviceKind::kCuda ? kGpu : kMain, event.begin,
        event.end,
        fmt::format(",\"args\":{{\"flops\":{:.0f},\"bytes\":{:.0f}}}", event.work.flops,
                    event.work.bytes));
  }
  return text + "\n]}\n";
}

void write_profile(const std::filesystem::path& folder, const Profile& profile,
                   const ProfileTable& table) {
  const io::FaultScope faults(io::FileKind::kRun);
  io::StagedFile trace(folder / "profile.json", profile_trace(profile));
  io::StagedFile rows(folder / "profile.csv", profile_csv(table));
  trace.commit();
  rows.commit();
}

}  // namespace onpa::apps
