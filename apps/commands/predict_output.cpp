#include "apps/commands/predict_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "data/table.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

constexpr std::int64_t kTopOfText = 5;  // classes of a line of text

// What has classes, rather than the target that a model was trained on here.
bool is_classifier(const ModelCard& card) {
  return card.passt.outputs > 1 && card.target_mean == 0 && card.target_std == 1;
}

}  // namespace

PredictOutput::PredictOutput(const PredictArgs& args, const ModelCard& card,
                             std::vector<std::string> names)
    : args_(args), card_(card), names_(std::move(names)), top_(args.top) {
  if (args.json && args.csv) fail(ExitCode::kUsage, "--json and --csv: want one of them");
  if (!is_classifier(card) && (args.top > 0 || !args.classes.empty())) {
    fail(ExitCode::kUsage, args.top > 0 ? "--top" : "--classes",
         " is for models of classes; this one predicts a number");
  }
  const bool is_text = !args.json && !args.csv;
  if (top_ == 0 && !names_.empty() && (is_text || args.json)) top_ = kTopOfText;
  top_ = std::min(top_, card.passt.outputs);
}

std::string PredictOutput::output_name(std::size_t index) const {
  if (index < names_.size()) return names_[index];
  return card_.passt.outputs == 1 ? "prediction" : fmt::format("output {}", index);
}

std::vector<PredictOutput::Ranked> PredictOutput::top(const std::vector<float>& logits) const {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](auto a, auto b) { return logits[a] > logits[b]; });
  order.resize(static_cast<std::size_t>(top_));
  std::vector<Ranked> out;
  for (const std::size_t i : order) {
    const auto logit = static_cast<double>(logits[i]);
    out.push_back({i, output_name(i), logit, 1 / (1 + std::exp(-logit))});
  }
  return out;
}

void PredictOutput::write(const std::string& input, const ClipModel::Output& output) {
  std::vector<double> prediction;
  for (const float logit : output.logits) {
    prediction.push_back(static_cast<double>(logit) * card_.target_std + card_.target_mean);
  }
  if (rows_ != nullptr) (*rows_)(std::vector<float>(prediction.begin(), prediction.end()));
  if (args_.json) return write_json(input, output, prediction);
  if (args_.csv) return write_csv(input, output, prediction);
  write_text(input, output, prediction);
}

void PredictOutput::skip() {
  if (rows_ == nullptr) return;
  const auto width = static_cast<std::size_t>(card_.passt.outputs);
  (*rows_)(std::vector<float>(width, std::numeric_limits<float>::quiet_NaN()));
}

void PredictOutput::write_json(const std::string& input, const ClipModel::Output& output,
                               const std::vector<double>& prediction) const {
  nlohmann::ordered_json json = {
      {"input", input},
      {"seconds", static_cast<double>(output.samples) / card_.mel.rate_hz},
      {"logits", output.logits}};
  json["prediction"] = prediction.size() == 1 ? nlohmann::ordered_json(prediction.front())
                                              : nlohmann::ordered_json(prediction);
  if (output.windows > 1) json["windows"] = output.windows;
  if (top_ > 0) {
    json["top"] = nlohmann::ordered_json::array();
    for (const Ranked& one : top(output.logits)) {
      json["top"].push_back({{"class", one.index},
                             {"name", one.name},
                             {"logit", one.logit},
                             {"probability", one.probability}});
    }
  }
  print_now(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void PredictOutput::write_csv(const std::string& input, const ClipModel::Output& output,
                              const std::vector<double>& prediction) {
  const std::string seconds =
      fmt::format("{:.3f}", static_cast<double>(output.samples) / card_.mel.rate_hz);
  std::string lines;
  if (!std::exchange(said_header_, true)) {
    std::vector<std::string> header = {"input", "seconds"};
    if (top_ > 0) {
      header.insert(header.end(), {"rank", "class", "name", "logit", "probability"});
    } else {
      for (std::size_t i = 0; i < prediction.size(); ++i) header.push_back(output_name(i));
    }
    lines = data::csv_line(header);
  }
  if (top_ > 0) {
    std::size_t rank = 0;
    for (const Ranked& one : top(output.logits)) {
      lines += data::csv_line({input, seconds, std::to_string(++rank), std::to_string(one.index),
                               one.name, fmt::format("{:.6g}", one.logit),
                               fmt::format("{:.6g}", one.probability)});
    }
  } else {
    std::vector<std::string> cells = {input, seconds};
    for (const double v : prediction) cells.push_back(fmt::format("{:.9g}", v));
    lines += data::csv_line(cells);
  }
  print_now(lines);
}

void PredictOutput::write_text(const std::string& input, const ClipModel::Output& output,
                               const std::vector<double>& prediction) const {
  std::string line = input + "\t", space;
  if (top_ > 0) {
    for (const Ranked& one : top(output.logits)) {
      line += fmt::format("{}{} {:.3f}", std::exchange(space, "; "), one.name, one.probability);
    }
  } else {
    for (const double v : prediction) line += fmt::format("{}{:.6g}", std::exchange(space, " "), v);
  }
  print_now(line + "\n");
}

void print_now(const std::string& text) {
  const bool taken = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (taken && std::fflush(stdout) == 0) return;
  fail(ExitCode::kIo, "cannot write to standard output: ", std::strerror(errno));
}

}  // namespace onpa::apps
