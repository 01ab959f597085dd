// A study.json as onpa study writes it, made by hand, for tests to change and to render.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace onpa::testing {

using StudyJson = nlohmann::ordered_json;

struct StudyOptions {
  std::vector<std::string> models = {"passt", "dense"};
  std::vector<std::string> genres = {"edm", "honky-tonk", "</script><b>&\"'"};
  int curve_points = 20, heat_bins = 10;
};

inline StudyJson errors_json(double n, double mae) {
  return {{"n", n}, {"rmse", 1.25 * mae}, {"mae", mae}, {"r2", 0.2}};
}

inline StudyJson cell_json(const StudyOptions& options, double n, double mae, int rank) {
  StudyJson loss = StudyJson::array();
  for (int i = 1; i <= options.curve_points; ++i) {
    loss.push_back({10.0 * i / options.curve_points, 0.02 + 0.1 / i});
  }
  return {{"run", "runs/x"},
          {"status", "done"},
          {"metrics", errors_json(n, mae)},
          {"mae_interval", {mae - 0.001, mae + 0.001}},
          {"rmse_interval", {1.25 * mae - 0.001, 1.25 * mae + 0.001}},
          {"bin_balanced", {{"bin_width", 5}, {"bins", 20}, {"rmse", 0.25}, {"mae", 0.2}}},
          {"bias", 0.001},
          {"rank", rank},
          {"parameters", 117761},
          {"epochs", 10},
          {"steps", 2280},
          {"train_seconds", 8460},
          {"hours_per_epoch", 0.235},
          {"peak_memory_bytes", 6.4e9},
          {"energy_joules", nullptr},
          {"loss_curve", loss},
          {"eval_curve", {{1, 0.16, 0.13}, {2, 0.15, 0.12}}}};
}

/// dense - passt.
inline StudyJson difference_json(double mae, double half_width) {
  return {{"of", "dense - passt"},
          {"mae", mae},
          {"low", mae - half_width},
          {"high", mae + half_width},
          {"wilcoxon", {{"n", 100}, {"statistic", 10.0}, {"z", -2.0}, {"p", 0.0455}}}};
}

inline StudyJson scope_json(const StudyOptions& options, const std::string& name, double test,
                            double passt, double dense, int rank) {
  StudyJson models = StudyJson::object();
  for (const std::string& model : options.models) {
    models[model] = cell_json(options, test, model == "passt" ? passt : dense, rank);
  }
  const bool both = options.models.size() == 2;
  return {{"name", name},
          {"slug", "slug"},
          {"tracks", 5 * test},
          {"train", 4 * test},
          {"train_kept", 3 * test},
          {"test", test},
          {"models", models},
          {"baselines",
           {{"constant mean", errors_json(test, 0.125)}, {"linear", errors_json(test, 0.122)}}},
          {"difference", both ? difference_json(dense - passt, 0.002) : StudyJson(nullptr)}};
}

/// PaSST is better over all data by 0.012 (0.107 against 0.119, 0.002 to either side); of the
/// genres the second is reversed, the others are not.
inline StudyJson study_json(const StudyOptions& options = {}) {
  StudyJson scopes = {scope_json(options, "all data", 1000, 0.107, 0.119, 2)};
  for (std::size_t i = 0; i < options.genres.size(); ++i) {
    const double passt = 0.03 + 0.001 * static_cast<double>(i);
    const double dense = i == 1 ? passt - 0.009 : passt + 0.02;
    scopes.push_back(
        scope_json(options, options.genres[i], 50, passt, dense, static_cast<int>(i) + 1));
  }
  StudyJson configs, heat, worst, bin_mae;
  const StudyJson row(std::vector<double>(static_cast<std::size_t>(options.heat_bins), 7));
  for (const std::string& model : options.models) {
    configs[model] = "[train]\nlr = 1e-5  # <slow>\n";
    heat[model] = {{"low", 0},
                   {"high", 100},
                   {"bins", options.heat_bins},
                   {"counts", std::vector<StudyJson>(row.size(), row)}};
    worst[model] = {{{"id", "id<1>"}, {"genre", "edm"}, {"target", 0.4}, {"prediction", -0.2}}};
    bin_mae[model] = 0.11;
  }
  StudyJson bins = StudyJson::array();
  for (int low = 0; low < 100; low += 5) {
    bins.push_back({{"low", low}, {"high", low + 5}, {"n", 50}, {"mae", bin_mae}});
  }
  const std::vector<int> counts(20, 40), kept(20, 30);
  const StudyJson card = {
      {"version", 2},
      {"source", {{"csv", "tracks.csv"}}},
      {"rows",
       {{"read", 5100}, {"dropped", 100}, {"dropped_by_reason", {{"popularity: missing", 100}}}}},
      {"tracks", {{"used", 5000}, {"train", 4000}, {"train_kept", 3000}, {"test", 1000}}},
      {"popularity_histogram",
       {{"bin_width", 5.0}, {"train", counts}, {"train_kept", kept}, {"test", counts}}},
      {"hashes", {{"csv_xxh3", "00ff00ff00ff00ff"}}}};
  return {{"version", 1},
          {"made",
           {{"onpa", "1.2.3"},
            {"commit", "abc1234"},
            {"utc", "2026-01-02T03:04:05Z"},
            {"device", "CPU"},
            {"cpu", "a processor"},
            {"cores", 4}}},
          {"command", {"onpa", "study", "--data", "my data", "--out", "study"}},
          {"data", {{"folder", "my data"}, {"hash", "1234567812345678"}, {"card", card}}},
          {"options",
           {{"seed", 7},
            {"min_tracks", 100},
            {"models", options.models},
            {"from", "scratch"},
            {"confidence", 0.95},
            {"draws", 1000}}},
          {"configs", configs},
          {"scopes", scopes},
          {"variants", StudyJson::array()},
          {"rank_correlation", options.models.size() == 2
                                   ? StudyJson{{"spearman", 0.5}, {"p", 0.02}, {"n", 4}}
                                   : StudyJson(nullptr)},
          {"peers", StudyJson::array()},
          {"error_by_bin", bins},
          {"predicted_true", heat},
          {"worst", worst},
          {"slowest", {{{"id", "slow"}, {"audio", "a/slow.mp3"}, {"seconds", 1.5}}}},
          {"floors", nullptr},
          {"failed", StudyJson::array()}};
}

/// One variant of Dense on all data, with the given changes of its errors against plain Dense.
inline StudyJson variant_json(const StudyOptions& options, const std::string& name,
                              const std::vector<std::string>& settings, double natural,
                              double balanced) {
  StudyJson cell = cell_json(options, 1000, 0.119 + natural, 0);
  cell["bin_balanced"]["mae"] = 0.2 + balanced;
  return {{"name", name},
          {"model", "dense"},
          {"settings", settings},
          {"cell", cell},
          {"difference", difference_json(natural, 0.001)}};
}

}  // namespace onpa::testing
