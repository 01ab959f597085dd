#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/study/tables.h"
#include "data/table.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::ordered_json;
using Cells = std::vector<std::vector<std::string>>;  // first row: header

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  const std::string shown = text.data();
  const bool zero = shown.find_first_not_of("-0.") == std::string::npos;
  return zero && shown[0] == '-' ? shown.substr(1) : shown;
}

// Enough digits that the value reads back as it was to a part in 1e-7; empty if it is not known.
std::string plain(double value) {
  if (!std::isfinite(value)) return "";
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.8g", value);
  return text.data();
}

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

// Three significant digits: an epoch takes from milliseconds to days.
std::string hours(double value) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.3g", value);
  return text.data();
}

std::string range(const Interval& interval) {
  if (!std::isfinite(interval.low)) return "-";
  return fixed(interval.low, 4) + " to " + fixed(interval.high, 4);
}

Json range_json(const Interval& interval) {
  return Json::array({number(interval.low), number(interval.high)});
}

Cells cells_of(const Table1& table) {
  bool floors = false;
  for (const Table1Row& row : table.rows) floors |= std::isfinite(row.floor_rmse);
  Cells cells = {{"model", "RMSE", "MAE", "MAE, 95 %", "bin-balanced MAE", "R2", "hours/epoch"}};
  if (floors) cells[0].push_back("RMSE floor");
  for (const Table1Row& row : table.rows) {
    cells.push_back({row.model, fixed(row.metrics.rmse, 4), fixed(row.metrics.mae, 4),
                     range(row.mae_interval), fixed(row.balanced.mae, 4), fixed(row.metrics.r2, 3),
                     hours(row.hours_per_epoch)});
    if (floors) cells.back().push_back(fixed(row.floor_rmse, 4));
  }
  return cells;
}

Cells cells_of(const Table2& table) {
  Cells cells = {{"genre", "n"}};
  for (const std::string& model : table.models) {
    cells[0].push_back(model + " MAE");
    cells[0].push_back("95 %");
    cells[0].push_back("rank");
  }
  for (const Table2Row& row : table.rows) {
    cells.push_back({row.genre, std::to_string(row.n)});
    for (std::size_t m = 0; m < table.models.size(); ++m) {
      cells.back().push_back(fixed(row.mae[m], 4));
      cells.back().push_back(range(row.mae_interval[m]));
      cells.back().push_back(row.rank[m] > 0 ? std::to_string(row.rank[m]) : "-");
    }
  }
  return cells;
}

// Columns for a terminal: the first to the left, numbers to the right.
std::string aligned(const Cells& cells) {
  std::vector<std::size_t> width(cells[0].size(), 0);
  for (const auto& row : cells) {
    for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  }
  std::string text;
  for (const auto& row : cells) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string padding(width[c] - row[c].size(), ' ');
      text += c == 0 ? row[c] + padding : "  " + padding + row[c];
    }
    while (text.ends_with(' ')) text.pop_back();
    text += '\n';
  }
  return text;
}

std::string markdown(const Cells& cells) {
  std::string text;
  for (std::size_t r = 0; r < cells.size(); ++r) {
    text += '|';
    for (const std::string& cell : cells[r]) {
      text += ' ';
      for (const char c : cell) text += c == '|' ? std::string("\\|") : std::string(1, c);
      text += " |";
    }
    text += '\n';
    if (r > 0) continue;
    text += "|---|";
    for (std::size_t c = 1; c < cells[0].size(); ++c) text += "---:|";
    text += '\n';
  }
  return text;
}

std::string title(const Table1& table) {
  return detail::concat("Table 1: all data, ", table.train_tracks, " train and ", table.test_tracks,
                        " test tracks");
}

std::string title(const Table2& table) {
  return "Table 2: MAE per genre (" + table.training + ")";
}

}  // namespace

std::string table_text(const Table1& table) {
  return title(table) + "\n" + aligned(cells_of(table));
}
std::string table_text(const Table2& table) {
  return title(table) + "\n" + aligned(cells_of(table));
}
std::string table_markdown(const Table1& table) {
  return title(table) + "\n\n" + markdown(cells_of(table));
}
std::string table_markdown(const Table2& table) {
  return title(table) + "\n\n" + markdown(cells_of(table));
}

std::string table_csv(const Table1& table) {
  std::string text =
      data::csv_line({"model", "n", "rmse", "mae", "r2", "hours_per_epoch", "floor_rmse", "mae_low",
                      "mae_high", "balanced_rmse", "balanced_mae"});
  for (const Table1Row& row : table.rows) {
    text += data::csv_line({row.model, std::to_string(row.metrics.n), plain(row.metrics.rmse),
                            plain(row.metrics.mae), plain(row.metrics.r2),
                            plain(row.hours_per_epoch), plain(row.floor_rmse),
                            plain(row.mae_interval.low), plain(row.mae_interval.high),
                            plain(row.balanced.rmse), plain(row.balanced.mae)});
  }
  return text;
}

std::string table_csv(const Table2& table) {
  std::vector<std::string> cells = {"genre", "n"};
  for (const std::string& model : table.models) {
    cells.push_back("mae_" + model);
    cells.push_back("rank_" + model);
    cells.push_back("mae_low_" + model);
    cells.push_back("mae_high_" + model);
  }
  std::string text = data::csv_line(cells);
  for (const Table2Row& row : table.rows) {
    cells = {row.genre, std::to_string(row.n)};
    for (std::size_t m = 0; m < table.models.size(); ++m) {
      cells.push_back(plain(row.mae[m]));
      cells.push_back(row.rank[m] > 0 ? std::to_string(row.rank[m]) : "");
      cells.push_back(plain(row.mae_interval[m].low));
      cells.push_back(plain(row.mae_interval[m].high));
    }
    text += data::csv_line(cells);
  }
  return text;
}

std::string table_json(const Table1& table) {
  Json rows = Json::array();
  for (const Table1Row& row : table.rows) {
    rows.push_back({{"model", row.model},
                    {"n", row.metrics.n},
                    {"rmse", number(row.metrics.rmse)},
                    {"mae", number(row.metrics.mae)},
                    {"r2", number(row.metrics.r2)},
                    {"hours_per_epoch", number(row.hours_per_epoch)},
                    {"floor_rmse", number(row.floor_rmse)},
                    {"mae_interval", range_json(row.mae_interval)},
                    {"bin_balanced",
                     {{"bin_width", row.balanced.bin_width},
                      {"bins", row.balanced.bins},
                      {"rmse", number(row.balanced.rmse)},
                      {"mae", number(row.balanced.mae)}}}});
  }
  const Json json = {
      {"train_tracks", table.train_tracks}, {"test_tracks", table.test_tracks}, {"rows", rows}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string table_json(const Table2& table) {
  Json rows = Json::array();
  for (const Table2Row& row : table.rows) {
    Json mae = Json::object(), rank = Json::object(), interval = Json::object();
    for (std::size_t m = 0; m < table.models.size(); ++m) {
      mae[table.models[m]] = number(row.mae[m]);
      rank[table.models[m]] = row.rank[m] > 0 ? Json(row.rank[m]) : Json(nullptr);
      interval[table.models[m]] = range_json(row.mae_interval[m]);
    }
    rows.push_back({{"genre", row.genre},
                    {"n", row.n},
                    {"mae", mae},
                    {"mae_interval", interval},
                    {"rank", rank}});
  }
  const Json json = {{"training", table.training}, {"models", table.models}, {"rows", rows}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string predictions_csv(const data::DataSet& data, const std::vector<ModelResult>& results) {
  std::string text =
      data::csv_line({"model", "id", "genre", "target", "prediction", "absolute_error"});
  for (const ModelResult& result : results) {
    for (const TrackPrediction& p : result.predictions) {
      const data::Track& track = data.tracks.at(static_cast<std::size_t>(p.row));
      text += data::csv_line({result.model, track.id, track.genre, plain(p.target),
                              plain(p.prediction), plain(std::abs(p.target - p.prediction))});
    }
  }
  return text;
}

void stage_tables(const std::filesystem::path& folder, const Table1& table1, const Table2& table2,
                  std::vector<io::StagedFile>& files) {
  const auto stage = [&](const char* name, const std::string& text) {
    files.emplace_back(folder / name, text);
  };
  if (!table1.rows.empty()) {
    stage("table1.json", table_json(table1));
    stage("table1.csv", table_csv(table1));
    stage("table1.md", table_markdown(table1));
  }
  stage("table2.json", table_json(table2));
  stage("table2.csv", table_csv(table2));
  stage("table2.md", table_markdown(table2));
}

void write_results(const std::filesystem::path& folder, const data::DataSet& data,
                   const std::vector<ModelResult>& results, const Table1& table1,
                   const Table2& table2) {
  const io::FaultScope faults(io::FileKind::kTables);
  io::make_folders(folder);
  // All are on the disk before the first takes its place: a full disk never mixes two evaluations.
  std::vector<io::StagedFile> files;
  stage_tables(folder, table1, table2, files);
  files.emplace_back(folder / "predictions.csv", predictions_csv(data, results));
  for (io::StagedFile& file : files) file.commit();
}

}  // namespace onpa::apps
