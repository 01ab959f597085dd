#include "apps/inference/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/commands/commands.h"
#include "apps/inference/class_names.h"
#include "apps/inference/explain_figure.h"
#include "apps/inference/inference.h"
#include "apps/inference/predictor.h"
#include "apps/inference/windows.h"
#include "apps/report/report_text.h"
#include "apps/support/log.h"
#include "apps/support/outputs.h"
#include "audio/decode_stream.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"
#include "tensor/io/npy.h"

namespace onpa::apps {
namespace {

constexpr double kLargeGap = 0.05;  // of what integrated gradients should sum to

// What the model hears of a clip.
struct Window {
  double from_s = 0, seconds = 0, clip_s = 0;
  bool cut = false;            // there is more of the clip behind it
  std::vector<float> samples;  // of so many seconds, and silence up to a patch
};

// As much from --from on as goes through in one pass, or a window of the model's length: what
// `predict` makes one prediction of.
Window window_of(const ModelCard& card, const ExplainArgs& args) {
  audio::DecodeOptions options;
  options.rate_hz = card.mel.rate_hz;
  options.min_seconds = 0;
  options.max_seconds = std::numeric_limits<double>::infinity();
  audio::DecodeStream stream(std::filesystem::path(args.input), options);
  const double rate_hz = card.mel.rate_hz, first = std::min(1e15, args.from_s * rate_hz);
  const WindowPlan plan = plan_windows(card);
  Stretch heard = stretch_from([&](std::vector<float>& out) { return stream.read(out); },
                               static_cast<std::int64_t>(first), plan);
  const double clip_s = static_cast<double>(heard.clip_samples) / rate_hz;
  if (heard.samples.empty()) {
    fail(ExitCode::kUsage, "--from: ", args.from_s, " s, but ", args.input, " has ", clip_s, " s");
  }
  const double seconds = static_cast<double>(heard.samples.size()) / rate_hz;
  if (std::ssize(heard.samples) < plan.shortest) {
    spdlog::warn("{}: {:.3f} s is under one patch; padded with silence", args.input, seconds);
    heard.samples.resize(static_cast<std::size_t>(plan.shortest));
  }
  return {args.from_s, seconds, clip_s, heard.cut, std::move(heard.samples)};
}

std::string seconds_text(double seconds) {
  return fmt::format("{:.2f}", seconds);
}

std::string output_text(const ModelCard& card, const Explanation& e) {
  const std::string value = report::significant(e.value, 4);
  if (card.passt.outputs == 1) return "prediction " + value;
  const std::vector<std::string> names = class_names(card.passt.outputs);
  if (names.empty()) return fmt::format("output {}: logit {}", e.output, value);
  return fmt::format("{} (output {}): logit {}", names[static_cast<std::size_t>(e.output)],
                     e.output, value);
}

// Sums or means over one axis of (mels, frames).
std::vector<double> margin(const Tensor& map, bool over_frequency, bool absolute, double scale) {
  const std::int64_t mels = map.size(0), frames = map.size(1);
  std::vector<double> out(static_cast<std::size_t>(over_frequency ? mels : frames));
  for (std::int64_t f = 0; f < mels; ++f) {
    for (std::int64_t t = 0; t < frames; ++t) {
      const double x = map.data<float>()[f * frames + t];
      out[static_cast<std::size_t>(over_frequency ? f : t)] += scale * (absolute ? std::abs(x) : x);
    }
  }
  return out;
}

std::string describe(const ExplainOptions& o, const nn::PasstConfig& c) {
  switch (o.method) {
    case ExplainMethod::kRollout:
      return fmt::format("Attention rollout over {} layers", c.depth);
    case ExplainMethod::kAttention: {
      const std::int64_t layer = o.layer < 0 ? c.depth - 1 : o.layer;
      return o.head < 0 ? fmt::format("Attention of layer {}, mean of {} heads", layer, c.heads)
                        : fmt::format("Attention of layer {}, head {}", layer, o.head);
    }
    case ExplainMethod::kGradient:
      return "Gradient of the prediction";
    case ExplainMethod::kGradientInput:
      return "Gradient times distance from silence";
    default:
      return fmt::format("Integrated gradients from silence, {} steps", o.steps);
  }
}

void describe_attention(figure::Figure& f, const Explanation& e, const nn::PasstConfig& c) {
  f.map = spread_over_cells(e.map, c, f.mel.size(1));
  const auto patches = e.map.span<float>();
  double mean = 0;
  for (const float x : patches)
    mean += static_cast<double>(x) / static_cast<double>(patches.size());
  const float scale = mean > 0 ? static_cast<float>(1 / mean) : 0;
  for (float& x : f.map.span<float>()) x *= scale;
  f.map_unit = "× the mean";
  f.over_time = margin(f.map, false, false, 1 / static_cast<double>(c.mels));
  f.over_frequency = margin(f.map, true, false, 1 / static_cast<double>(f.mel.size(1)));
  f.time_title = "Mean over frequency, × the mean";
  f.frequency_title = "mean over time";
  f.note =
      "1 is the attention that a patch would get if all got alike. Attention shows where the model "
      "looks, not which way that moves its prediction.";
}

void describe_gradient(figure::Figure& f, const Explanation& e, const nn::PasstConfig& c,
                       ExplainMethod method) {
  f.map = e.map;
  f.with_signs = true;
  f.map_unit = "a cell";
  if (method == ExplainMethod::kGradient) {
    f.over_time = margin(e.map, false, true, 1 / static_cast<double>(c.mels));
    f.over_frequency = margin(e.map, true, true, 1 / static_cast<double>(f.mel.size(1)));
    f.time_title = "Mean size over frequency";
    f.frequency_title = "mean size";
    f.note = fmt::format(
        "Orange: a little more energy in the cell would raise the prediction; blue: lower it. Per "
        "unit of the front end's scale ({} dB).",
        report::significant(f.front_end.std * 10 / std::log(10.0), 3));
    return;
  }
  const double frames_per_s = static_cast<double>(f.front_end.rate_hz) / f.front_end.hop_samples;
  f.over_time = margin(e.map, false, false, frames_per_s);
  f.over_frequency = margin(e.map, true, false, 1);
  f.time_title = "Contribution per second";
  f.frequency_title = "per band";
  if (method == ExplainMethod::kGradientInput) {
    f.note = fmt::format(
        "Orange cells raise the prediction above that of silence, blue ones lower it, if the model "
        "were linear. Sum: {}.",
        report::with_sign(e.sum, 4));
    return;
  }
  f.note = fmt::format(
      "Orange cells raise the prediction above that of silence ({}), blue ones lower it. They sum "
      "to {}; the whole change is {}.",
      report::significant(e.silence_value, 4), report::with_sign(e.sum, 4),
      report::with_sign(e.value - e.silence_value, 4));
}

figure::Figure figure_of(const ExplainArgs& args, const ModelCard& card,
                         const ExplainOptions& options, const Window& window, const Tensor& mel,
                         const Explanation& e) {
  figure::Figure f;
  const std::string name = std::filesystem::path(args.input).filename().string();
  f.front_end = card.mel;
  f.from_s = window.from_s;
  f.mel = mel.view({mel.size(1), mel.size(2)});
  f.title = name + " · " + output_text(card, e);
  f.map_title = describe(options, card.passt);
  f.subtitle = f.map_title;
  if (window.cut || window.from_s > 0) {
    f.subtitle +=
        fmt::format(" · seconds {} to {} of {}", seconds_text(window.from_s),
                    seconds_text(window.from_s + window.seconds), seconds_text(window.clip_s));
  } else {
    f.subtitle += fmt::format(" · {} s", seconds_text(window.clip_s));
  }
  const nn::PasstConfig& c = card.passt;
  const std::int64_t columns = std::min(c.grid_t(mel.size(2)), c.table_t);
  f.heard_mels = c.patch_f + (c.grid_f() - 1) * c.stride_f;
  f.heard_frames = c.patch_t + (columns - 1) * c.stride_t;
  if (is_attention(options.method)) {
    describe_attention(f, e, card.passt);
  } else {
    describe_gradient(f, e, card.passt, options.method);
  }
  if (f.heard_mels < c.mels) f.note += " Grey: bands that no patch covers.";
  return f;
}

nlohmann::ordered_json json_of(const ExplainArgs& args, const ModelCard& card,
                               const ExplainOptions& options, const Window& window,
                               const figure::Figure& f, const Explanation& e) {
  nlohmann::ordered_json out = {{"input", args.input},       {"model", args.model},
                                {"method", args.method},     {"from_seconds", window.from_s},
                                {"seconds", window.seconds}, {"clip_seconds", window.clip_s},
                                {"output", e.output},        {"value", e.value}};
  if (options.method == ExplainMethod::kAttention) {
    out["layer"] = options.layer < 0 ? card.passt.depth - 1 : options.layer;
    out["head"] = options.head;
    if (options.head < 0) out["head"] = "mean";
  }
  if (options.method == ExplainMethod::kIntegrated) {
    out["steps"] = options.steps;
    out["silence_value"] = e.silence_value;
    out["gap"] = e.gap();
  }
  if (!is_attention(options.method)) out["sum"] = e.sum;
  out["map_shape"] = {e.map.size(0), e.map.size(1)};
  std::vector<double> hz;
  for (std::int64_t band = 0; band < card.passt.mels; ++band) {
    hz.push_back(figure::band_centre_hz(card.mel, band));
  }
  out["frame_seconds"] = static_cast<double>(card.mel.hop_samples) / card.mel.rate_hz;
  out["over_time"] = {{"what", f.time_title}, {"values", f.over_time}};
  out["over_frequency"] = {{"what", f.frequency_title}, {"hz", hz}, {"values", f.over_frequency}};
  return out;
}

// The kind of figure that the name asks for.
bool wants_svg(const std::string& path) {
  std::string extension = std::filesystem::path(path).extension().string();
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (extension != ".svg" && extension != ".png") {
    fail(ExitCode::kUsage, "--out: ", path, ", want a name that ends in .png or .svg");
  }
  return extension == ".svg";
}

void require_room_for(const ExplainArgs& args) {
  const std::vector<OutputFile> files = {
      {"--out", args.out}, {"--json", args.json}, {"--npy", args.npy}};
  require_distinct(files);
  keep_inputs(files, {args.input, args.model});
  for (const std::string& path : {args.out, args.json, args.npy}) {
    if (!path.empty()) io::require_room(path, 1);  // now, rather than after the work
  }
}

}  // namespace

int run_explain(const ExplainArgs& args) {
  const bool svg = wants_svg(args.out);
  const ExplainOptions options{.method = explain_method_of(args.method),
                               .layer = args.layer,
                               .head = args.head,
                               .output = args.output,
                               .steps = args.steps};
  Predictor model(args.model, args.weights);
  if (!model.passt()) {
    fail(ExitCode::kUsage, args.model,
         ": a dense model hears no audio; explain takes a passt model");
  }
  const ModelCard& card = model.card();
  check_explain_options(options, card.passt);
  if (std::filesystem::is_directory(args.input)) {
    fail(ExitCode::kBadData, args.input, ": is a folder, want one audio file");
  }
  const io::FaultScope faults(io::FileKind::kTables);
  require_room_for(args);
  const Window window = window_of(card, args);
  model.compute_on({.device = args.device, .precision = "f32"});

  const auto count = static_cast<std::int64_t>(window.samples.size());
  const DeviceKind device = model.passt()->parameters().front().tensor.device();
  const Tensor mel =
      audio::log_mel(Tensor::from<float>({1, count}, window.samples).to(device), card.mel);
  const Explanation e = explain(*model.passt(), card, mel, options);
  const figure::Figure f = figure_of(args, card, options, window, on_host(mel), e);
  if (options.method == ExplainMethod::kIntegrated && e.gap() > kLargeGap) {
    spdlog::warn("{}: the contributions miss {:.1f} % of the change from silence; try --steps {}",
                 args.input, 100 * e.gap(), 4 * options.steps);
  }
  std::vector<io::StagedFile> files;
  files.emplace_back(args.out, svg ? figure::draw_svg(f) : figure::draw_png(f));
  if (!args.json.empty()) {
    const auto json = json_of(args, card, options, window, f, e);
    files.emplace_back(args.json,
                       json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  if (!args.npy.empty()) files.push_back(io::stage_npy(args.npy, e.map));
  for (io::StagedFile& file : files) file.commit();
  spdlog::info("{}: {}, {}", args.out, output_text(card, e), f.subtitle);
  return 0;
}

}  // namespace onpa::apps
