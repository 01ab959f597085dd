#include "apps/study/study_results.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unordered_map>

#include "apps/inference/inference.h"
#include "apps/inference/predictor.h"
#include "apps/support/stop_signal.h"
#include "apps/training/train_state.h"
#include "apps/training/train_task.h"
#include "data/file.h"
#include "data/table.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kCurvePoints = 400;

// Shortest text that reads back as the same value.
std::string exact(float value) {
  std::ostringstream text;
  text.precision(9);
  text << value;
  return text.str();
}

std::string predictions_text(const data::DataSet& data,
                             const std::vector<TrackPrediction>& predictions) {
  std::string text = data::csv_line({"id", "target", "prediction"});
  for (const TrackPrediction& p : predictions) {
    text += data::csv_line(
        {data.tracks[static_cast<std::size_t>(p.row)].id, exact(p.target), exact(p.prediction)});
  }
  return text;
}

std::vector<TrackPrediction> read_predictions(const fs::path& path, const data::DataSet& data) {
  const data::Table table = data::Table::read_csv(path);
  const int id = table.find("id"), prediction = table.find("prediction");
  if (id < 0 || prediction < 0) {
    fail(ExitCode::kBadData, path.string(), ": want the columns id and prediction");
  }
  std::unordered_map<std::string_view, std::int64_t> rows;
  for (const std::int64_t row : data.indices(data::Split::kTest)) {
    rows.emplace(data.tracks[static_cast<std::size_t>(row)].id, row);
  }
  std::vector<TrackPrediction> out;
  for (std::int64_t line = 0; line < table.rows(); ++line) {
    const auto row = rows.find(table.cell(line, id));
    double value = 0;
    if (row == rows.end() || !data::parse_number(table.cell(line, prediction), value)) {
      fail(ExitCode::kBadData, path.string(), ":", table.line(line),
           ": no test track, or no number");
    }
    out.push_back({row->second, data.tracks[static_cast<std::size_t>(row->second)].target,
                   static_cast<float>(value)});
  }
  std::ranges::sort(out, {}, &TrackPrediction::row);
  const auto twice = std::ranges::adjacent_find(out, {}, &TrackPrediction::row);
  if (twice != out.end()) {
    fail(ExitCode::kBadData, path.string(), ": two predictions for track ",
         data.tracks[static_cast<std::size_t>(twice->row)].id);
  }
  return out;
}

// Means of as many neighbours as make kCurvePoints points of them.
std::vector<std::pair<double, double>> thinned(
    const std::vector<std::pair<double, double>>& points) {
  const std::size_t group = (points.size() + kCurvePoints - 1) / kCurvePoints;
  std::vector<std::pair<double, double>> out;
  for (std::size_t begin = 0; begin < points.size(); begin += group) {
    const std::size_t end = std::min(points.size(), begin + group);
    double epoch = 0, loss = 0;
    for (std::size_t i = begin; i < end; ++i) {
      epoch += points[i].first;
      loss += points[i].second;
    }
    const auto n = static_cast<double>(end - begin);
    out.emplace_back(epoch / n, loss / n);
  }
  return out;
}

// The run's metrics.jsonl; what cannot be read of it is left out.
void read_curves(const fs::path& run, CellResult& cell) {
  std::ifstream file(run / "metrics.jsonl");
  const double steps_per_epoch =
      static_cast<double>(cell.steps) / static_cast<double>(std::max<std::int64_t>(1, cell.epochs));
  std::vector<std::pair<double, double>> losses;
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("step")) continue;
    const auto number = [&](const char* key) {
      const auto value = json.find(key);
      return value != json.end() && value->is_number() ? value->get<double>() : kUnknown;
    };
    const double epoch = number("step") / std::max(steps_per_epoch, 1.0);
    if (std::isfinite(number("loss"))) losses.emplace_back(epoch, number("loss"));
    // Averaged weights are what is evaluated where a run keeps any.
    const bool average = json.contains("average_rmse");
    const bool test = json.contains("test_rmse");
    const double rmse = number(average ? "average_rmse" : test ? "test_rmse" : "validation_rmse");
    const double mae = number(average ? "average_mae" : test ? "test_mae" : "validation_mae");
    if (std::isfinite(rmse)) cell.eval_curve.push_back({epoch, {rmse, mae}});
  }
  cell.loss_curve = thinned(losses);
}

Json read_json(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return nullptr;
  return Json::parse(data::read_file(path), nullptr, false);
}

const std::string& text_of(const nn::FoundCheckpoint& found, const std::string& name) {
  const auto text = found.content.text.find(name);
  if (text == found.content.text.end()) {
    fail(ExitCode::kBadCheckpoint, found.folder.string(), ": no ", name);
  }
  return text->second;
}

// As evaluate_run(), until this process is asked to stop, with what else a study wants to know.
CellResult predict(const Cell& cell, const data::DataSet& data, const ComputeChoice& compute) {
  const nn::FoundCheckpoint found = open_checkpoint(cell.run);
  const TrainState state = TrainState::from_json(text_of(found, "state.json"));
  Predictor predictor(found);
  predictor.compute_on(compute);
  CellResult out;
  out.result.model = cell.model;
  out.result.hours_per_epoch = state.hours_per_epoch;
  out.epochs = state.epoch;
  out.steps = state.step;
  out.train_seconds = state.train_seconds;
  out.data_hash = state.data_hash;
  out.start = state.start;
  out.config = text_of(found, "config.toml");
  const auto stop = [] { return stop_requested() != 0; };
  const std::vector<std::int64_t> rows = data.indices(data::Split::kTest);
  const std::int64_t batch = cell.config.train.eval_batch_size;
  if (nn::Dense* dense = predictor.dense()) {
    out.parameters = dense->parameter_count();
    out.result.predictions = predict_rows(*dense, predictor.card(), data, rows, batch, stop);
    return out;
  }
  out.parameters = predictor.passt()->parameter_count();
  data::LoaderOptions options = loader_options(cell.config);
  options.batch_size = batch;
  out.result.predictions = predict_rows(*predictor.passt(), predictor.card(), data,
                                        rows_with_audio(data, rows), options, stop);
  return out;
}

void read_cost(const StudyFolder& folder, const Cell& cell, CellResult& out) {
  const Json cost = read_json(folder.cost(cell));
  if (!cost.is_object()) return;
  out.peak_memory_bytes = cost.value("peak_memory_bytes", std::int64_t{0});
  if (cost.contains("energy_joules") && cost["energy_joules"].is_number()) {
    out.energy_joules = cost["energy_joules"].get<double>();
  }
}

Json to_json(const CellResult& cell) {
  Json eval = Json::array();
  for (const auto& [epoch, errors] : cell.eval_curve) {
    eval.push_back({epoch, errors.first, errors.second});
  }
  return {{"model", cell.result.model},
          {"parameters", cell.parameters},
          {"epochs", cell.epochs},
          {"steps", cell.steps},
          {"train_seconds", cell.train_seconds},
          {"hours_per_epoch", cell.result.hours_per_epoch},
          {"loss_curve", cell.loss_curve},
          {"eval_curve", eval},
          {"data_hash", cell.data_hash},
          {"start", cell.start ? Json(*cell.start) : Json(nullptr)},
          {"config", cell.config}};
}

std::optional<std::string> start_of(const Json& json) {
  const auto start = json.find("start");
  if (start == json.end() || !start->is_string()) return std::nullopt;
  return start->get<std::string>();
}

CellResult from_json(const Json& json) {
  CellResult out;
  out.result.model = json.at("model");
  out.parameters = json.at("parameters");
  out.epochs = json.at("epochs");
  out.steps = json.at("steps");
  out.train_seconds = json.at("train_seconds");
  out.result.hours_per_epoch = json.at("hours_per_epoch");
  out.loss_curve = json.at("loss_curve").get<std::vector<std::pair<double, double>>>();
  for (const Json& point : json.at("eval_curve")) {
    out.eval_curve.push_back({point.at(0), {point.at(1), point.at(2)}});
  }
  out.data_hash = json.at("data_hash");
  out.start = start_of(json);
  out.config = json.at("config");
  return out;
}

}  // namespace

ErrorReport report_errors(const data::DataSet& data,
                          const std::vector<TrackPrediction>& predictions, std::uint64_t seed,
                          int draws) {
  std::vector<float> target, prediction;
  std::vector<double> errors, popularity;
  ErrorReport out;
  for (const TrackPrediction& p : predictions) {
    target.push_back(p.target);
    prediction.push_back(p.prediction);
    errors.push_back(static_cast<double>(p.target) - p.prediction);
    popularity.push_back(data.tracks[static_cast<std::size_t>(p.row)].popularity);
    out.bias -= errors.back();
  }
  out.bias /= static_cast<double>(predictions.size());
  out.metrics = regression_metrics(target, prediction);
  out.intervals = bootstrap_errors(errors, seed, draws);
  out.bins = errors_by_bin(popularity, errors);
  out.balanced = bin_balanced(out.bins);
  return out;
}

std::vector<TrackPrediction> read_peer(const fs::path& csv, const data::DataSet& data) {
  std::vector<TrackPrediction> out = read_predictions(csv, data);
  if (out.empty()) fail(ExitCode::kBadData, csv.string(), ": no prediction");
  for (TrackPrediction& p : out) p.prediction = data.target_map.target(p.prediction);
  return out;
}

std::optional<CellResult> evaluate_cell(const StudyFolder& folder, const Cell& cell,
                                        const data::DataSet& data, const ComputeChoice& compute) {
  if (const Json json = read_json(folder.result(cell)); json.is_object()) {
    CellResult out;
    try {
      out = from_json(json);
    } catch (const Json::exception& error) {
      fail(ExitCode::kBadData, folder.result(cell).string(), ": ", error.what(),
           "; remove it to have the model evaluated again");
    }
    out.result.predictions = read_predictions(folder.predictions(cell), data);
    read_cost(folder, cell, out);
    return out;
  }
  CellResult out = predict(cell, data, compute);
  if (stop_requested() != 0) return std::nullopt;
  if (out.result.predictions.empty()) {
    fail(ExitCode::kBadData, cell.name, ": no test track has a prediction");
  }
  read_curves(cell.run, out);
  read_cost(folder, cell, out);
  const io::FaultScope faults(io::FileKind::kTables);
  io::make_folders(folder.root / "results");
  // The predictions first: a result that is there is whole.
  io::StagedFile csv(folder.predictions(cell), predictions_text(data, out.result.predictions));
  io::StagedFile json(folder.result(cell),
                      to_json(out).dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  csv.commit();
  json.commit();
  return out;
}

std::optional<TrainedWith> trained_with(const StudyFolder& folder, const Cell& cell) {
  const Json result = read_json(folder.result(cell));
  const fs::path last = cell.run / "checkpoints" / "last";
  std::error_code ignored;
  if (result.is_object() && result.contains("config") && result.contains("data_hash")) {
    return TrainedWith{.config = parse_toml(cell.model, result["config"].get<std::string>(),
                                            folder.result(cell).string()),
                       .data_hash = result["data_hash"].get<std::string>(),
                       .start = start_of(result),
                       .evaluated = true};
  }
  if (!fs::exists(last / "config.toml", ignored) || !fs::exists(last / "state.json", ignored)) {
    return std::nullopt;
  }
  const TrainState state = TrainState::from_json(data::read_file(last / "state.json"));
  return TrainedWith{.config = parse_toml(cell.model, data::read_file(last / "config.toml"),
                                          (last / "config.toml").string()),
                     .data_hash = state.data_hash,
                     .start = state.start,
                     .evaluated = false};
}

void add_cost(const StudyFolder& folder, const Cell& cell, const CellOutcome& outcome) {
  Json cost = read_json(folder.cost(cell));
  if (!cost.is_object()) cost = Json::object();
  cost["exit_code"] = outcome.exit_code;
  cost["seconds"] = cost.value("seconds", 0.0) + outcome.seconds;
  cost["peak_memory_bytes"] =
      std::max(cost.value("peak_memory_bytes", std::int64_t{0}), outcome.peak_memory_bytes);
  // Unknown for one start is unknown for the run.
  const Json before = cost.contains("energy_joules") ? cost["energy_joules"] : Json(0.0);
  cost["energy_joules"] = nullptr;
  if (outcome.energy_joules && before.is_number()) {
    cost["energy_joules"] = before.get<double>() + *outcome.energy_joules;
  }
  const io::FaultScope faults(io::FileKind::kTables);
  io::write_file_atomic(folder.cost(cell), cost.dump(1) + "\n", false);
}

}  // namespace onpa::apps
