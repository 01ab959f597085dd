#include "apps/study/study_figures.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "apps/support/environment.h"
#include "apps/support/log.h"
#include "data/table.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kListed = 10;   // worst and slowest tracks
constexpr std::size_t kScatter = 50;  // bins of true and predicted popularity

std::size_t scatter_bin(double popularity) {
  const double place = popularity / 100 * static_cast<double>(kScatter);
  return static_cast<std::size_t>(std::clamp(place, 0.0, static_cast<double>(kScatter) - 1));
}

}  // namespace

Json number_json(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json range_json(const Interval& interval) {
  return Json::array({number_json(interval.low), number_json(interval.high)});
}

Json metrics_json(const RegressionMetrics& m) {
  return {{"n", m.n},
          {"rmse", number_json(m.rmse)},
          {"mae", number_json(m.mae)},
          {"r2", number_json(m.r2)}};
}

Json balanced_json(const BinBalanced& b) {
  return {{"bin_width", b.bin_width},
          {"bins", b.bins},
          {"rmse", number_json(b.rmse)},
          {"mae", number_json(b.mae)}};
}

Json made_json(bool gpu) {
  Json out = Json::object();
  const auto environment = describe_environment();
  const auto value = [&](const std::string& name) {
    for (const auto& [key, text] : environment) {
      if (key == name) return text;
    }
    return std::string();
  };
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  out["onpa"] = value("version");
  out["commit"] = value("commit");
  out["utc"] = text;
  out["device"] = gpu ? value("device") : "cpu";
  out["cpu"] = value("cpu");
  out["cores"] = std::stoi(value("cores"));
  return out;
}

Json predicted_true_json(const data::TargetMap& map,
                         const std::vector<TrackPrediction>& predictions) {
  std::vector<std::vector<std::int64_t>> counts(kScatter, std::vector<std::int64_t>(kScatter, 0));
  for (const TrackPrediction& p : predictions) {
    ++counts[scatter_bin(map.popularity(p.target))][scatter_bin(map.popularity(p.prediction))];
  }
  return {{"low", 0}, {"high", 100}, {"bins", kScatter}, {"counts", counts}};
}

Json worst_json(const data::DataSet& data, std::vector<TrackPrediction> predictions) {
  const auto error = [](const TrackPrediction& p) {
    return std::abs(static_cast<double>(p.prediction) - p.target);
  };
  const std::size_t count = std::min(kListed, predictions.size());
  std::partial_sort(predictions.begin(), predictions.begin() + static_cast<std::ptrdiff_t>(count),
                    predictions.end(),
                    [&](const auto& a, const auto& b) { return error(a) > error(b); });
  Json out = Json::array();
  for (std::size_t i = 0; i < count; ++i) {
    const data::Track& track = data.tracks[static_cast<std::size_t>(predictions[i].row)];
    out.push_back({{"id", track.id},
                   {"genre", track.genre},
                   {"target", predictions[i].target},
                   {"prediction", predictions[i].prediction}});
  }
  return out;
}

Json slowest_json(const fs::path& run) {
  const fs::path file = run / "slowest_tracks.csv";
  Json out = Json::array();
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return out;
  const data::Table table = data::Table::read_csv(file);
  const int id = table.find("id"), audio = table.find("audio"), seconds = table.find("seconds");
  for (std::int64_t row = 0; row < table.rows(); ++row) {
    double value = 0;
    if (id < 0 || audio < 0 || seconds < 0 ||
        !data::parse_number(table.cell(row, seconds), value)) {
      fail(ExitCode::kBadData, table.name(), ": not a list of id, audio and seconds");
    }
    out.push_back(
        {{"id", table.cell(row, id)}, {"audio", table.cell(row, audio)}, {"seconds", value}});
  }
  return out;
}

std::optional<Floors> floors_of(const data::DataSet& data) {
  const Json card = Json::parse(data.card, nullptr, false);
  if (!card.is_object() || !card.contains("source") || !card["source"].is_object()) return {};
  const fs::path folder = fs::path(card["source"].value("csv", "")).parent_path();
  std::error_code ignored;
  if (!fs::exists(folder / "truth.csv", ignored) || !fs::exists(folder / "corpus.json", ignored)) {
    return {};
  }
  try {
    return test_floors(folder, data);
  } catch (const Error& error) {
    spdlog::warn("no floors: {}", error.what());
    return {};
  }
}

}  // namespace onpa::apps
