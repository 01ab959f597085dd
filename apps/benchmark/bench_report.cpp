#include "apps/benchmark/bench_report.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "apps/support/environment.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::ordered_json;

// Three significant digits at least, without an exponent.
std::string number(double value) {
  if (!std::isfinite(value)) return "-";
  const int digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return fmt::format("{:.{}f}", value, digits);
}
std::string milliseconds(double seconds) {
  return number(1e3 * seconds);
}
std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.0f} %", 100 * share) : "- %";
}
std::string mebibytes(std::size_t bytes) {
  return number(static_cast<double>(bytes) / (1 << 20)) + " MiB";
}

std::string plural(std::int64_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string environment_value(const std::string& name) {
  for (const auto& [key, value] : describe_environment()) {
    if (key == name) return value;
  }
  return "";
}

std::string machine_text(const BenchResult& r) {
  if (r.compute.device == DeviceKind::kCuda) return r.table.device;
  return fmt::format("{}, {}: {}", environment_value("cpu"), environment_value("simd"),
                     r.table.device);
}

std::string limits_text(const Roofline& limits) {
  if (limits.gflops <= 0) return "not measured, for want of memory";
  return fmt::format("{:.4g} GFLOP/s, {:.3g} GB/s of copying; measured just now", limits.gflops,
                     limits.gigabytes_per_second);
}

std::string batch_text(const BenchResult& r) {
  const TrainSettings& train = r.config.train;
  const bool audio = r.clip_seconds > 0;
  const std::int64_t batch = r.training ? train.batch_size : train.eval_batch_size;
  std::string text = plural(batch, audio ? "clip" : "row");
  if (r.training && train.accumulate > 1) text += fmt::format(" x {}", train.accumulate);
  if (audio) {
    text += fmt::format(" of {:.4g} s, {} tokens each: {} tokens", r.clip_seconds, r.tokens,
                        r.samples * r.tokens);
  }
  return text;
}

std::string rate_text(const BenchResult& r) {
  const bool audio = r.clip_seconds > 0;
  std::string text = number(r.samples_per_second()) + (audio ? " clips/s" : " rows/s");
  if (audio) text += fmt::format(", {} x realtime", number(r.realtime_factor()));
  return text;
}

// How long the steps took that were recorded op by op, where they are not those that were timed.
std::string recorded_text(const BenchResult& r) {
  if (r.compute.device == DeviceKind::kCpu) {
    return fmt::format("op by op, the {} steps together:\n", r.table.steps);
  }
  return fmt::format("op by op, {} more steps, kernel by kernel, {} ms each:\n", r.table.steps,
                     milliseconds(r.table.seconds / static_cast<double>(r.table.steps)));
}

Json settings_json(Config config) {
  Json out = Json::object();
  for (const Setting& setting : settings_of(config)) {
    std::visit([&](const auto* value) { out[setting.key] = *value; }, setting.value);
  }
  return out;
}

Json ops_json(const ProfileTable& table) {
  Json ops = Json::array();
  for (const ProfileRow& row : table.ops) {
    const double share = table.share_of_limit(row);
    ops.push_back({{"op", row.op},
                   {"calls", row.calls},
                   {"seconds", row.seconds},
                   {"flops", row.flops},
                   {"bytes", row.bytes},
                   {"share_of_limit", share},
                   {"limit", !std::isfinite(share)       ? Json()
                             : table.bound_by_flops(row) ? Json("flops")
                                                         : Json("memory")}});
  }
  return ops;
}

Json environment() {
  Json out = Json::object();
  for (const auto& [name, value] : describe_environment()) out[name] = value;
  return out;
}

// Zero stands for what a Dense does not have.
Json or_null(double value) {
  return value > 0 ? Json(value) : Json();
}

}  // namespace

std::string bench_text(const BenchResult& r) {
  const double least = r.least_seconds();
  const std::vector<std::pair<const char*, std::string>> lines = {
      {"machine", machine_text(r)},
      {"limits", limits_text(r.table.limits)},
      {"model", fmt::format("{}, {} parameters, {}", r.config.model.preset, r.parameters,
                            name_of(r.compute.dtype))},
      {"batch", batch_text(r)},
      {r.training ? "step" : "pass",
       fmt::format("{} ms, median of {} after {} for warm-up; quartiles {} and {}",
                   milliseconds(r.median_seconds()), r.step_seconds.size(), r.warmup,
                   milliseconds(r.quantile(0.25)), milliseconds(r.quantile(0.75)))},
      {"rate", rate_text(r)},
      {"work",
       fmt::format("{} GFLOP: {} GFLOP/s, {} of the peak", number(1e-9 * r.flops_per_step()),
                   number(r.gflops()), percent(r.share_of_peak()))},
      {"at best", fmt::format("{} ms, with every op at its limit: {} of the median",
                              milliseconds(least), percent(least / r.median_seconds()))},
      {"memory", fmt::format("{} of tensors at most; {} resident", mebibytes(r.tensor_bytes),
                             mebibytes(r.process_bytes))},
  };
  std::string text;
  for (const auto& [name, value] : lines) text += fmt::format("{:<8} {}\n", name, value);
  return text + "\n" + recorded_text(r) + profile_rows_text(r.table);
}

std::string bench_json(const BenchResult& r) {
  Json steps = Json::array();
  for (const double seconds : r.step_seconds) steps.push_back(seconds);
  const ProfileTable& t = r.table;
  const Json json = {
      {"environment", environment()},
      {"device", t.device},
      {"precision", name_of(r.compute.dtype)},
      {"limits",
       {{"gflops_per_second", or_null(t.limits.gflops)},
        {"gigabytes_per_second", or_null(t.limits.gigabytes_per_second)}}},
      {"model", r.config.model.preset},
      {"what", r.training ? "train" : "eval"},
      {"parameters", r.parameters},
      {"samples_per_step", r.samples},
      {"seconds_per_clip", or_null(r.clip_seconds)},
      {"tokens_per_clip", r.tokens > 0 ? Json(r.tokens) : Json()},
      {"warmup_steps", r.warmup},
      {"step_seconds",
       {{"median", r.median_seconds()},
        {"lower_quartile", r.quantile(0.25)},
        {"upper_quartile", r.quantile(0.75)},
        {"all", steps}}},
      {"samples_per_second", r.samples_per_second()},
      {"realtime_factor", or_null(r.realtime_factor())},
      {"flops_per_step", r.flops_per_step()},
      {"gflops_per_second", r.gflops()},
      {"share_of_peak", r.share_of_peak()},
      {"least_seconds", r.least_seconds()},
      {"peak_tensor_bytes", r.tensor_bytes},
      {"peak_process_bytes", r.process_bytes},
      {"op_by_op",
       {{"steps", t.steps},
        {"seconds", t.seconds},
        {"ops_seconds", t.ops_seconds},
        {"wait_seconds", t.wait_seconds},
        {"other_seconds", t.other_seconds},
        {"ops", ops_json(t)}}},
      {"settings", settings_json(r.config)},
  };
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace onpa::apps
