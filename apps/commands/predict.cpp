#include <fmt/core.h>
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "apps/commands/commands.h"
#include "apps/inference/predictor.h"
#include "apps/support/inputs.h"
#include "apps/support/log.h"
#include "audio/decode.h"
#include "data/file.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

// One number for a regressor, the list of a classifier's.
nlohmann::ordered_json prediction_json(const Predictor::Output& output) {
  if (output.prediction.size() == 1) return output.prediction.front();
  return output.prediction;
}

void print_line(const nlohmann::ordered_json& json) {
  // A name that is not UTF-8 is printed with replacement characters.
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
}

std::string numbers(const std::vector<double>& values) {
  std::string out;
  for (const double v : values) out += fmt::format("{}{:.6g}", out.empty() ? "" : " ", v);
  return out;
}

void predict_audio(Predictor& model, const std::string& path, bool json) {
  audio::DecodeOptions options;
  options.rate_hz = model.card().mel.rate_hz;
  const audio::Clip clip = audio::decode_file(path, options);
  const Predictor::Output output = model.predict(clip.samples, path);
  if (json) {
    print_line({{"input", path},
                {"seconds", clip.seconds()},
                {"logits", output.logits},
                {"prediction", prediction_json(output)}});
  } else {
    fmt::print("{}\t{}\n", path, numbers(output.prediction));
  }
}

void predict_table(Predictor& model, const std::string& path, bool json) {
  const data::Table table = data::Table::read_csv(path);
  const std::vector<Predictor::Output> outputs = model.predict(table);
  for (std::size_t row = 0; row < outputs.size(); ++row) {
    const std::string name = fmt::format("{}:{}", path, table.line(static_cast<std::int64_t>(row)));
    if (json) {
      print_line({{"input", name},
                  {"seconds", 0.0},
                  {"logits", outputs[row].logits},
                  {"prediction", prediction_json(outputs[row])}});
    } else {
      fmt::print("{}\t{}\n", name, numbers(outputs[row].prediction));
    }
  }
}

// A file of the other kind of model's input is a slip on the command line. What is neither, or
// cannot be read, is left to the reader, which says more.
void check_kind(const Predictor& model, const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return;
  const bool named_csv = std::filesystem::path(path).extension() == ".csv";
  if (model.card().kind == "passt" && !named_csv) return;
  bool audio = true;
  try {
    const std::string bytes = data::read_file(path);
    audio::sniff_format(std::as_bytes(std::span(bytes)), path);
  } catch (const Error&) {
    audio = false;
  }
  if (model.card().kind == "passt") {
    if (!audio) fail(ExitCode::kUsage, "a passt model takes audio files, ", path, " is a CSV");
  } else if (audio) {
    fail(ExitCode::kUsage, "a dense model takes CSV files, ", path, " is audio");
  }
}

}  // namespace

// A bad input does not cost the others: it is reported, and the exit code tells at the end.
int run_predict(const PredictArgs& args) {
  Predictor model(args.model);
  const std::vector<std::string> inputs = expand_inputs(args.inputs);
  for (const std::string& path : inputs) check_kind(model, path);
  model.compute_on(args.compute);
  int code = 0;
  for (const std::string& path : inputs) {
    try {
      if (model.passt()) {
        predict_audio(model, path, args.json);
      } else {
        predict_table(model, path, args.json);
      }
    } catch (const Error& error) {
      if (error.code() != ExitCode::kBadData && error.code() != ExitCode::kIo) throw;
      spdlog::error("{}", error.what());
      code = static_cast<int>(error.code());
    }
  }
  return code;
}

}  // namespace onpa::apps
