#include <fmt/core.h>
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "apps/commands/commands.h"
#include "apps/commands/predict_output.h"
#include "apps/inference/class_names.h"
#include "apps/inference/clip_source.h"
#include "apps/inference/predictor.h"
#include "apps/inference/windows.h"
#include "apps/support/inputs.h"
#include "apps/support/log.h"
#include "audio/decode.h"
#include "data/file.h"
#include "kernels/error.h"
#include "tensor/io/npy.h"

namespace onpa::apps {
namespace {

// One number for a regressor, the list of a classifier's.
nlohmann::ordered_json prediction_json(const Predictor::Output& output) {
  if (output.prediction.size() == 1) return output.prediction.front();
  return output.prediction;
}

void print_line(const nlohmann::ordered_json& json) {
  print_json_line(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string numbers(const std::vector<double>& values) {
  std::string out;
  for (const double v : values) out += fmt::format("{}{:.6g}", out.empty() ? "" : " ", v);
  return out;
}

void predict_audio(ClipModel& model, const ModelCard& card, const PredictArgs& args,
                   const std::string& path, PredictOutput& output) {
  output.write(path, model.scene(open_clip(path, card, args.clips.max_seconds), path));
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
  if (path == kStandardInput && model.card().kind != "passt") {
    fail(ExitCode::kUsage, "standard input is audio, a dense model takes CSV files");
  }
  if (path == kStandardInput || !std::filesystem::is_regular_file(path, error)) return;
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

// What may go wrong with one input and not cost the others.
bool is_of_input(const Error& error) {
  return error.code() == ExitCode::kBadData || error.code() == ExitCode::kIo;
}

int predict_clips(Predictor& model, const PredictArgs& args,
                  const std::vector<std::string>& inputs) {
  const ModelCard& card = model.card();
  ClipModel clips(*model.passt(), card, window_options(args.clips));
  PredictOutput output(args, card, class_names(card.passt.outputs, args.classes));
  int code = 0;
  const auto run = [&] {
    for (const std::string& path : inputs) {
      try {
        predict_audio(clips, card, args, path, output);
      } catch (const Error& error) {
        if (!is_of_input(error)) throw;
        spdlog::error("{}", error.what());
        output.skip();
        code = static_cast<int>(error.code());
      }
    }
  };
  if (args.npy.empty()) {
    run();
    return code;
  }
  const std::int64_t rows =
      io::write_npy_rows(args.npy, card.passt.outputs, [&](const io::NpyRowSink& sink) {
        output.set_rows(&sink);
        run();
      });
  spdlog::info("{}: float32 ({}, {})", args.npy, rows, card.passt.outputs);
  return code;
}

int predict_tables(Predictor& model, const PredictArgs& args,
                   const std::vector<std::string>& inputs) {
  if (args.csv || !args.npy.empty() || args.top > 0 || !args.classes.empty()) {
    fail(ExitCode::kUsage, "--csv, --npy, --top and --classes are for audio models");
  }
  int code = 0;
  for (const std::string& path : inputs) {
    try {
      predict_table(model, path, args.json);
    } catch (const Error& error) {
      if (!is_of_input(error)) throw;
      spdlog::error("{}", error.what());
      code = static_cast<int>(error.code());
    }
  }
  return code;
}

}  // namespace

WindowOptions window_options(const ClipArgs& args) {
  WindowOptions options;
  options.longer = args.longer == "interpolate" ? LongClips::kInterpolate
                   : args.longer == "cut"       ? LongClips::kCut
                                                : LongClips::kWindows;
  options.window_seconds = args.window_seconds;
  options.hop_seconds = args.hop_seconds;
  options.batch = args.batch;
  return options;
}

// A bad input does not cost the others: it is reported, and the exit code tells at the end.
int run_predict(const PredictArgs& args) {
  Predictor model(args.model, args.weights);
  const std::vector<std::string> inputs = expand_inputs(args.clips.inputs, args.clips.list);
  for (const std::string& path : inputs) check_kind(model, path);
  model.compute_on(args.compute);
  return model.passt() ? predict_clips(model, args, inputs) : predict_tables(model, args, inputs);
}

}  // namespace onpa::apps
