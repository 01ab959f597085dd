#include "apps/study/study_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "apps/study/study_figures.h"
#include "data/file.h"
#include "data/table.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr double kConfidence = 0.95;

Json wilcoxon_json(const Wilcoxon& w) {
  return {{"n", w.n},
          {"statistic", number_json(w.statistic)},
          {"z", number_json(w.z)},
          {"p", number_json(w.p)}};
}

// Rows that both predicted, with the errors of each.
struct Paired {
  std::vector<double> a, b;
};

Paired paired(const std::vector<TrackPrediction>& a, const std::vector<TrackPrediction>& b) {
  Paired out;
  auto other = b.begin();
  for (const TrackPrediction& p : a) {  // both ascend by row
    while (other != b.end() && other->row < p.row) ++other;
    if (other == b.end() || other->row != p.row) continue;
    out.a.push_back(static_cast<double>(p.prediction) - p.target);
    out.b.push_back(static_cast<double>(other->prediction) - other->target);
  }
  return out;
}

std::int64_t count_kept(const data::DataSet& data, bool train) {
  return std::ssize(data.indices(train ? data::Split::kTrain : data::Split::kTest));
}

}  // namespace

StudyJson::StudyJson(const StudyArgs& args, const StudyPlan& plan, const data::DataSet& data,
                     bool gpu, const std::vector<CellFailure>& failures)
    : args_(args), plan_(plan), data_(data), failures_(failures), seed_(args.seed.value_or(1)) {
  json_ = {{"version", 1},
           {"made", made_json(gpu)},
           {"command", args.command},
           {"data",
            {{"folder", args.data},
             {"hash", data.hash},
             {"card", Json::parse(data.card, nullptr, false)}}},
           {"options",
            {{"seed", seed_},
             {"min_tracks", args.min_tracks},
             {"models", plan.models},
             {"from", args.from},
             {"init_from", args.init_from},
             {"confidence", kConfidence},
             {"draws", args.draws}}},
           {"configs", Json::object()},
           {"scopes", Json::array()},
           {"variants", Json::array()},
           {"rank_correlation", nullptr},
           {"peers", Json::array()},
           {"error_by_bin", Json::array()},
           {"predicted_true", Json::object()},
           {"worst", Json::object()},
           {"slowest", Json::array()},
           {"floors", nullptr},
           {"failed", Json::array()}};
  for (const std::string& model : plan.models) {
    json_["configs"][model] = to_toml(plan.configs.at(model));
  }
  table2_.training = "one model of each kind a row, trained on the row's tracks alone";
  if (args.from == "all-data") {
    table2_.training =
        "one model of each kind a row, those of genres going on from that of all data";
  }
  table2_.models = plan.models;
}

ErrorReport StudyJson::report(const data::DataSet& data,
                              const std::vector<TrackPrediction>& p) const {
  return report_errors(data, p, seed_, args_.draws);
}

Json StudyJson::failed_cell_json(const Cell& cell) const {
  return {{"run", cell.run.lexically_relative(plan_.folder.root).string()}, {"status", "failed"}};
}

Json StudyJson::cell_json(const Cell& cell, const CellResult& result,
                          const ErrorReport& report) const {
  Json eval = Json::array();
  for (const auto& [epoch, errors] : result.eval_curve) {
    eval.push_back({number_json(epoch), number_json(errors.first), number_json(errors.second)});
  }
  return {
      {"run", cell.run.lexically_relative(plan_.folder.root).string()},
      {"status", "done"},
      {"metrics", metrics_json(report.metrics)},
      {"mae_interval", range_json(report.intervals.mae)},
      {"rmse_interval", range_json(report.intervals.rmse)},
      {"bin_balanced", balanced_json(report.balanced)},
      {"bias", number_json(report.bias)},
      {"rank", nullptr},
      {"parameters", result.parameters},
      {"epochs", result.epochs},
      {"steps", result.steps},
      {"train_seconds", number_json(result.train_seconds)},
      {"hours_per_epoch", number_json(result.result.hours_per_epoch)},
      {"peak_memory_bytes",
       result.peak_memory_bytes > 0 ? Json(result.peak_memory_bytes) : Json(nullptr)},
      {"energy_joules", result.energy_joules ? number_json(*result.energy_joules) : Json(nullptr)},
      {"loss_curve", result.loss_curve},
      {"eval_curve", eval}};
}

Json StudyJson::difference(const std::string& of, const std::vector<TrackPrediction>& a,
                           const std::vector<TrackPrediction>& b) const {
  const Paired errors = paired(a, b);
  if (errors.a.empty()) return nullptr;
  const PairedDifference d = bootstrap_mae_difference(errors.a, errors.b, seed_, args_.draws);
  std::vector<double> sizes[2];
  for (const double e : errors.a) sizes[0].push_back(std::abs(e));
  for (const double e : errors.b) sizes[1].push_back(std::abs(e));
  return {{"of", of},
          {"mae", number_json(d.mean)},
          {"low", number_json(d.low)},
          {"high", number_json(d.high)},
          {"wilcoxon", wilcoxon_json(wilcoxon_signed_rank(sizes[0], sizes[1]))}};
}

void StudyJson::add_scope(std::size_t s, const data::DataSet& data, const Results& results) {
  const Scope& scope = plan_.scopes[s];
  const std::int64_t train =
      std::ranges::count(data.tracks, data::Split::kTrain, &data::Track::split);
  Json json = {{"name", scope.name},
               {"slug", scope.slug},
               {"tracks", data.tracks.size()},
               {"train", train},
               {"train_kept", count_kept(data, true)},
               {"test", count_kept(data, false)},
               {"models", Json::object()},
               {"baselines", Json::object()},
               {"difference", nullptr}};
  Table2Row row{
      .genre = scope.name, .n = count_kept(data, false), .mae = {}, .rank = {}, .mae_interval = {}};
  std::map<std::string, const std::vector<TrackPrediction>*> plain;
  for (const std::string& model : plan_.models) {
    row.mae.push_back(kUnknown);
    row.mae_interval.emplace_back();
    for (const Cell& cell : plan_.cells) {
      if (cell.scope == s && cell.model == model && cell.variant.empty()) {
        json["models"][model] = failed_cell_json(cell);
      }
    }
    for (const auto& [cell, result] : results) {
      if (cell->model != model || !cell->variant.empty()) continue;
      const ErrorReport errors = report(data, result.result.predictions);
      json["models"][model] = cell_json(*cell, result, errors);
      row.mae.back() = errors.metrics.mae;
      row.mae_interval.back() = errors.intervals.mae;
      row.n = errors.metrics.n;
      plain[model] = &result.result.predictions;
    }
  }
  std::vector<std::int64_t> rows;
  std::vector<float> target;
  if (plain.empty()) {
    rows = data.indices(data::Split::kTest);
  } else {
    for (const TrackPrediction& p : *plain.begin()->second) rows.push_back(p.row);
  }
  for (const std::int64_t r : rows) {
    target.push_back(data.tracks[static_cast<std::size_t>(r)].target);
  }
  for (const auto& [name, prediction] : baseline_predictions(data, rows)) {
    json["baselines"][name] = metrics_json(regression_metrics(target, prediction));
  }
  if (plain.contains("dense") && plain.contains("passt")) {
    json["difference"] = difference("dense - passt", *plain["dense"], *plain["passt"]);
  }
  json_["scopes"].push_back(std::move(json));
  table2_.rows.push_back(std::move(row));
  if (!scope.all) return;
  add_all_data(data, results);
  add_variants(data, results);
  if (!args_.peers.empty()) add_peers(data);
}

void StudyJson::add_all_data(const data::DataSet& data, const Results& results) {
  std::vector<ModelResult> plain;
  for (const auto& [cell, result] : results) {
    if (!cell->variant.empty()) continue;
    plain.push_back(result.result);
    const std::vector<TrackPrediction>& predictions = result.result.predictions;
    json_["predicted_true"][cell->model] = predicted_true_json(data.target_map, predictions);
    json_["worst"][cell->model] = worst_json(data, predictions);
    if (cell->model == "passt") json_["slowest"] = slowest_json(cell->run);
    Json& bins = json_["error_by_bin"];
    const std::vector<BinError> errors = report(data, predictions).bins;
    for (std::size_t i = 0; i < errors.size(); ++i) {
      if (bins.size() == i) {
        bins.push_back({{"low", errors[i].low},
                        {"high", errors[i].high},
                        {"n", errors[i].n},
                        {"mae", Json::object()}});
      }
      bins[i]["mae"][cell->model] = number_json(errors[i].mae);
    }
  }
  std::vector<double> rmse_floors;
  if (const std::optional<Floors> floors = floors_of(data)) {
    json_["floors"] = {{"passt", floors->passt_rmse},
                       {"dense", floors->dense_rmse},
                       {"passt_mae", floors->passt_mae},
                       {"dense_mae", floors->dense_mae}};
    for (const ModelResult& result : plain) {
      rmse_floors.push_back(result.model == "dense" ? floors->dense_rmse : floors->passt_rmse);
    }
  }
  if (!plain.empty()) table1_ = make_table1(data, plain, rmse_floors);
}

void StudyJson::add_variants(const data::DataSet& data, const Results& results) {
  for (const Cell& cell : plan_.cells) {
    if (cell.variant.empty()) continue;
    Json json = {{"name", cell.variant},
                 {"model", cell.model},
                 {"settings", cell.settings},
                 {"cell", failed_cell_json(cell)},
                 {"difference", nullptr}};
    const auto find = [&](const std::string& variant) -> const CellResult* {
      for (const auto& [c, result] : results) {
        if (c->model == cell.model && c->variant == variant) return &result;
      }
      return nullptr;
    };
    const CellResult* own = find(cell.variant);
    const CellResult* plain = find("");
    if (own != nullptr) {
      json["cell"] = cell_json(cell, *own, report(data, own->result.predictions));
    }
    if (own != nullptr && plain != nullptr) {
      json["difference"] =
          difference("variant - plain", own->result.predictions, plain->result.predictions);
    }
    json_["variants"].push_back(std::move(json));
  }
}

void StudyJson::add_peers(const data::DataSet& data) {
  if (!fs::is_directory(args_.peers)) {
    fail(ExitCode::kInputMissing, args_.peers, ": no such folder of peers");
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(args_.peers)) {
    fs::path csv = entry.path();
    csv.replace_extension(".csv");
    if (entry.path().extension() == ".json" && fs::exists(csv)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    const Json about = Json::parse(data::read_file(file), nullptr, false);
    if (!about.is_object() || !about.contains("name") || !about["name"].is_string()) {
      fail(ExitCode::kBadData, file.string(), ": want a JSON object with a name");
    }
    fs::path csv = file;
    csv.replace_extension(".csv");
    const std::vector<TrackPrediction> predictions = read_peer(csv, data);
    const ErrorReport errors = report(data, predictions);
    const auto told = [&](const char* key) {
      return about.contains(key) ? about[key] : Json(nullptr);
    };
    json_["peers"].push_back({{"name", about["name"]},
                              {"library", told("library")},
                              {"settings", told("settings")},
                              {"seconds", told("seconds")},
                              {"metrics", metrics_json(errors.metrics)},
                              {"mae_interval", range_json(errors.intervals.mae)},
                              {"bin_balanced", balanced_json(errors.balanced)}});
    table1_.rows.push_back({.model = about["name"].get<std::string>(),
                            .metrics = errors.metrics,
                            .hours_per_epoch = kUnknown,
                            .floor_rmse = kUnknown,
                            .mae_interval = errors.intervals.mae,
                            .balanced = errors.balanced});
  }
}

void StudyJson::fill_ranks() {
  rank_rows(table2_);
  for (std::size_t s = 0; s < table2_.rows.size(); ++s) {
    for (std::size_t m = 0; m < plan_.models.size(); ++m) {
      const std::int64_t rank = table2_.rows[s].rank[m];
      if (rank > 0) json_["scopes"][s]["models"][plan_.models[m]]["rank"] = rank;
    }
  }
  if (plan_.models.size() < 2) return;
  std::vector<double> columns[2];
  for (const Table2Row& row : table2_.rows) {
    if (std::isnan(row.mae[0]) || std::isnan(row.mae[1])) continue;
    for (std::size_t m = 0; m < 2; ++m) columns[m].push_back(row.mae[m]);
  }
  if (columns[0].size() < 2) return;
  const Correlation c = spearman(columns[0], columns[1]);
  json_["rank_correlation"] = {{"spearman", number_json(c.r)}, {"p", number_json(c.p)}, {"n", c.n}};
}

Json StudyJson::failed_json() const {
  Json out = Json::array();
  for (const CellFailure& failure : failures_) {
    out.push_back({{"cell", failure.cell->name},
                   {"exit_code", failure.exit_code},
                   {"last_lines", failure.last_lines}});
  }
  return out;
}

void StudyJson::write() {
  fill_ranks();
  json_["failed"] = failed_json();
  const io::FaultScope faults(io::FileKind::kTables);
  std::vector<io::StagedFile> files;
  files.emplace_back(plan_.folder.root / "study.json",
                     json_.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  stage_tables(plan_.folder.root, table1_, table2_, files);
  for (io::StagedFile& file : files) file.commit();
}

void StudyJson::print() const {
  if (!table1_.rows.empty()) fmt::print("{}\n", table_text(table1_));
  fmt::print("{}", table_text(table2_));
  const Json& correlation = json_.at("rank_correlation");
  if (!correlation.is_null() && !correlation.at("spearman").is_null()) {
    fmt::print("\nSpearman's correlation of the two rankings: {:.3f} ({} rows)\n",
               correlation.at("spearman").get<double>(), correlation.at("n").get<std::int64_t>());
  }
}

}  // namespace onpa::apps
