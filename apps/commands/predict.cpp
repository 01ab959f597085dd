#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "apps/commands/commands.h"
#include "apps/commands/predict_output.h"
#include "apps/inference/class_names.h"
#include "apps/inference/clip_source.h"
#include "apps/inference/predictor.h"
#include "apps/inference/windows.h"
#include "apps/support/inputs.h"
#include "apps/support/log.h"
#include "apps/support/outputs.h"
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

std::string numbers(const std::vector<double>& values) {
  std::string out;
  for (const double v : values) out += fmt::format("{}{:.6g}", out.empty() ? "" : " ", v);
  return out;
}

std::string table_text(Predictor& model, const std::string& path, bool json) {
  const data::Table table = data::Table::read_csv(path);
  const std::vector<Predictor::Output> outputs = model.predict(table);
  std::string out;
  for (std::size_t row = 0; row < outputs.size(); ++row) {
    const std::string name = fmt::format("{}:{}", path, table.line(static_cast<std::int64_t>(row)));
    if (json) {
      const nlohmann::ordered_json line = {{"input", name},
                                           {"seconds", 0.0},
                                           {"logits", outputs[row].logits},
                                           {"prediction", prediction_json(outputs[row])}};
      out += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    } else {
      out += fmt::format("{}\t{}\n", name, numbers(outputs[row].prediction));
    }
  }
  return out;
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

// What `work` makes of an input, or nothing if there is something wrong with that, which is said
// and does not cost the others; `code` is then its exit code.
template <class Work>
auto of_input(int& code, const Work& work) -> std::optional<decltype(work())> {
  try {
    return work();
  } catch (const Error& error) {
    const ExitCode why = error.code();
    if (why != ExitCode::kBadData && why != ExitCode::kIo && why != ExitCode::kInputMissing) throw;
    spdlog::error("{}", error.what());
    code = static_cast<int>(why);
    return std::nullopt;
  }
}

int predict_clips(Predictor& model, const PredictArgs& args,
                  const std::vector<std::string>& inputs) {
  const ModelCard& card = model.card();
  ClipModel clips(*model.passt(), card, window_options(args.clips));
  PredictOutput output(args, card, class_names(card.passt.outputs, args.classes));
  int code = 0;
  const auto run = [&] {
    for (const std::string& path : inputs) {
      const auto heard = of_input(
          code, [&] { return clips.scene(open_clip(path, card, args.clips.max_seconds), path); });
      heard ? output.write(path, *heard) : output.skip();
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
  const ClipArgs& clips = args.clips;
  if (clips.longer != ClipArgs{}.longer || clips.window_seconds > 0 || clips.hop_seconds > 0 ||
      clips.batch > 0 || clips.max_seconds > 0) {
    fail(ExitCode::kUsage,
         "--long, --window, --every, --batch and --max-seconds are for audio models");
  }
  int code = 0;
  for (const std::string& path : inputs) {
    const auto text = of_input(code, [&] { return table_text(model, path, args.json); });
    if (text) print_now(*text);
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
  keep_inputs({{"--npy", args.npy}}, inputs);
  for (const std::string& path : inputs) check_kind(model, path);
  model.compute_on(args.compute);
  return model.passt() ? predict_clips(model, args, inputs) : predict_tables(model, args, inputs);
}

}  // namespace onpa::apps
