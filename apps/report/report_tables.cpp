#include "apps/report/report_tables.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/report/report_text.h"
#include "kernels/error.h"

namespace onpa::apps::report {
namespace {

// Adds the three columns of a value with an interval.
void add_interval_columns(std::vector<Column>& columns, const std::string& key,
                          const std::string& heading, Shown shown, const std::string& group = {}) {
  columns.push_back({key, heading, shown, group, true});
  columns.push_back({key + "_low", heading + " low", shown, group});
  columns.push_back({key + "_high", heading + " high", shown, group});
}

Value optional_text(const std::string& text) {
  return text.empty() ? Value() : Value(text);
}

std::vector<Value> result_row(const std::string& name, const std::string& kind,
                              const Errors& errors, Interval rmse, Interval mae,
                              const Balanced& balanced, double hours, double seconds) {
  return {name,    kind,     errors.n,  errors.rmse,   rmse.low,     rmse.high, errors.mae,
          mae.low, mae.high, errors.r2, balanced.rmse, balanced.mae, hours,     seconds};
}

}  // namespace

void Table::add_row(std::vector<Value> values, bool mark) {
  ONPA_CHECK(values.size() == columns.size(), "table ", name, ": ", values.size(), " values for ",
             columns.size(), " columns");
  rows.push_back(std::move(values));
  marked.push_back(mark);
}

Table results_table(const Study& study) {
  Table table{.name = "table1",
              .title = "Table 1. Errors on the test tracks of all data",
              .columns = {{"name", "model"}, {"kind", "kind"}, {"n", "n", Shown::kCount}},
              .rows = {}};
  add_interval_columns(table.columns, "rmse", "RMSE", Shown::kError);
  add_interval_columns(table.columns, "mae", "MAE", Shown::kError);
  table.columns.push_back({"r2", "R²", Shown::kRatio});
  table.columns.push_back({"balanced_rmse", "RMSE", Shown::kError, "bin-balanced"});
  table.columns.push_back({"balanced_mae", "MAE", Shown::kError, "bin-balanced"});
  table.columns.push_back({"hours_per_epoch", "hours/epoch", Shown::kHours});
  table.columns.push_back({"train_seconds", "training", Shown::kDuration});
  const bool floors = !study.floors.empty();
  if (floors) table.columns.push_back({"floor_rmse", "RMSE floor", Shown::kError});
  const auto add = [&](std::vector<Value> row, double floor, bool mark = false) {
    if (floors) row.push_back(floor);
    table.add_row(std::move(row), mark);
  };
  const auto floor_of = [&](const std::string& model) {
    const auto found = study.floors.find(model);
    return found == study.floors.end() ? kUnknown : found->second.rmse;
  };
  const auto add_cell = [&](const std::string& name, const std::string& kind, const Cell& cell,
                            double floor, bool mark) {
    add(result_row(name, kind, cell.errors, cell.rmse_interval, cell.mae_interval, cell.balanced,
                   cell.hours_per_epoch, cell.train_seconds),
        floor, mark);
  };
  for (const std::string& model : study.models) {
    const Cell* cell = study.all().done(model);
    add_cell(model_name(model), cell == nullptr ? "model, not finished" : "model",
             cell == nullptr ? Cell{} : *cell, floor_of(model), true);
  }
  for (const Variant& variant : study.variants) {
    add_cell(variant.name, model_name(variant.model) + " variant", variant.cell,
             floor_of(variant.model), false);
  }
  for (const auto& [name, errors] : study.all().baselines) {
    add(result_row(name, "baseline", errors, {}, {}, {}, kUnknown, kUnknown), kUnknown);
  }
  for (const Peer& peer : study.peers) {
    add(result_row(peer.name, peer.library.empty() ? "peer" : peer.library, peer.errors, {},
                   peer.mae_interval, peer.balanced, kUnknown, peer.seconds),
        floor_of("dense"));
  }
  return table;
}

Table variants_table(const Study& study) {
  Table table{.name = "variants",
              .title = "Variants beside the plain model",
              .columns = {{"name", "variant"}, {"model", "model"}, {"settings", "settings"}},
              .rows = {}};
  table.columns.push_back({"mae", "MAE", Shown::kError, "natural"});
  add_interval_columns(table.columns, "change", "change", Shown::kSignedError, "natural");
  table.columns.push_back({"p", "p", Shown::kP, "natural"});
  table.columns.push_back({"balanced_mae", "MAE", Shown::kError, "bin-balanced"});
  table.columns.push_back({"balanced_change", "change", Shown::kSignedError, "bin-balanced"});
  table.columns.push_back({"r2", "R²", Shown::kRatio});
  for (const Variant& variant : study.variants) {
    const Cell* plain = study.all().done(variant.model);
    const double balanced =
        plain == nullptr ? kUnknown : variant.cell.balanced.mae - plain->balanced.mae;
    const Difference d = variant.difference.value_or(Difference{});
    std::string settings;
    for (const std::string& setting : variant.settings) {
      settings += (settings.empty() ? "" : ", ") + setting;
    }
    table.add_row({variant.name, model_name(variant.model), optional_text(settings),
                   variant.cell.errors.mae, d.mae, d.interval.low, d.interval.high, d.p,
                   variant.cell.balanced.mae, balanced, variant.cell.errors.r2});
  }
  return table;
}

Table genres_table(const Study& study) {
  Table table{.name = "table2",
              .title = "Table 2. MAE of each genre, with ranks and the models' difference",
              .columns = {{"scope", "genre"}, {"n", "n", Shown::kCount}},
              .rows = {},
              .sortable = true};
  for (const std::string& model : study.models) {
    const std::string name = model_name(model);
    add_interval_columns(table.columns, "mae_" + model, "MAE", Shown::kError, name);
    table.columns.push_back({"rank_" + model, "rank", Shown::kCount, name});
  }
  const bool both = study.models.size() > 1;
  if (both) {
    add_interval_columns(table.columns, "difference", "MAE", Shown::kSignedError, "Dense − PaSST");
    table.columns.push_back({"wilcoxon_p", "p", Shown::kP, "Dense − PaSST"});
  }
  std::vector<std::size_t> order(study.scopes.size());
  std::iota(order.begin(), order.end(), 0);
  const auto mae_of = [&](std::size_t i) {
    const Cell* cell = study.models.empty() ? nullptr : study.scopes[i].done(study.models.front());
    const double mae = cell == nullptr ? kUnknown : cell->errors.mae;
    return std::isfinite(mae) ? mae : INFINITY;  // what is not known comes last
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return mae_of(a) < mae_of(b); });
  for (const std::size_t i : order) {
    const Scope& scope = study.scopes[i];
    std::vector<Value> row = {scope.name, scope.test};
    for (const std::string& model : study.models) {
      const Cell* done = scope.done(model);
      const Cell cell = done == nullptr ? Cell{} : *done;
      row.insert(row.end(),
                 {cell.errors.mae, cell.mae_interval.low, cell.mae_interval.high, cell.rank});
    }
    const Difference d = scope.difference.value_or(Difference{});
    if (both) row.insert(row.end(), {d.mae, d.interval.low, d.interval.high, d.p});
    table.add_row(std::move(row), i == 0);
  }
  return table;
}

Table error_bins_table(const Study& study) {
  Table table{.name = "error_by_bin",
              .title = "MAE by true popularity",
              .columns = {{"low", "from", Shown::kPoints},
                          {"high", "to", Shown::kPoints},
                          {"n", "n", Shown::kCount}},
              .rows = {}};
  for (const std::string& model : study.models) {
    table.columns.push_back({"mae_" + model, model_name(model), Shown::kError});
  }
  for (const ErrorBin& bin : study.error_bins) {
    std::vector<Value> row = {bin.low, bin.high, bin.n};
    for (const std::string& model : study.models) {
      const auto found = bin.mae.find(model);
      row.push_back(found == bin.mae.end() ? kUnknown : found->second);
    }
    table.add_row(std::move(row));
  }
  return table;
}

Table worst_table(const Study& study) {
  Table table{.name = "worst_tracks",
              .title = "Largest errors, in popularity points",
              .columns = {{"model", "model"},
                          {"id", "track"},
                          {"genre", "genre"},
                          {"popularity", "true", Shown::kPoints},
                          {"predicted", "predicted", Shown::kPoints},
                          {"error", "error", Shown::kPoints}},
              .rows = {}};
  const auto popularity = [&](double target) { return study.target_map.popularity(target); };
  for (const auto& [model, tracks] : study.worst) {
    for (const WorstTrack& track : tracks) {
      table.add_row({model_name(model), track.id, optional_text(track.genre),
                     popularity(track.target), popularity(track.prediction),
                     study.points(track.prediction - track.target)});
    }
  }
  return table;
}

Table slowest_table(const Study& study) {
  Table table{
      .name = "slowest_tracks",
      .title = "Tracks that took longest to decode",
      .columns = {{"id", "track"}, {"audio", "file"}, {"seconds", "time", Shown::kDuration}},
      .rows = {}};
  for (const SlowTrack& track : study.slowest) {
    table.add_row({track.id, optional_text(track.audio), track.seconds});
  }
  return table;
}

Table cost_table(const Study& study) {
  Table table{.name = "cost",
              .title = "What training took",
              .columns = {{"model", "model"},
                          {"trained_on", "trained on"},
                          {"parameters", "parameters", Shown::kCount},
                          {"epochs", "epochs", Shown::kCount},
                          {"steps", "steps", Shown::kCount},
                          {"hours_per_epoch", "hours/epoch", Shown::kHours},
                          {"train_seconds", "training", Shown::kDuration},
                          {"peak_memory_bytes", "peak memory", Shown::kBytes},
                          {"energy_joules", "energy", Shown::kEnergy}},
              .rows = {}};
  for (const std::string& model : study.models) {
    if (const Cell* c = study.all().done(model); c != nullptr) {
      table.add_row({model_name(model), study.all().name, c->parameters, c->epochs, c->steps,
                     c->hours_per_epoch, c->train_seconds, c->peak_memory_bytes, c->energy_joules});
    }
    double genres = 0, steps = 0, seconds = 0, memory = kUnknown, energy = 0;
    for (std::size_t i = 1; i < study.scopes.size(); ++i) {
      const Cell* c = study.scopes[i].done(model);
      if (c == nullptr) continue;
      genres += 1;
      steps += c->steps;
      seconds += c->train_seconds;
      energy += c->energy_joules;
      memory = std::fmax(memory, c->peak_memory_bytes);
    }
    if (genres == 0) continue;
    table.add_row({model_name(model), counted(genres, "genre", "genres") + ", in all", kUnknown,
                   kUnknown, steps, kUnknown, seconds, memory, energy});
  }
  return table;
}

Table failed_table(const Study& study) {
  Table table{.name = "failed",
              .title = "Parts that failed",
              .columns = {{"cell", "part"},
                          {"exit_code", "exit code", Shown::kCount},
                          {"last_line", "last line"}},
              .rows = {}};
  for (const FailedCell& cell : study.failed) {
    table.add_row({cell.cell, cell.exit_code,
                   cell.last_lines.empty() ? Value() : Value(cell.last_lines.back())});
  }
  return table;
}

Table counts_table(const Study& study) {
  Table table{.name = "counts",
              .title = "From the source to the test tracks",
              .columns = {{"step", "step"}, {"count", "count", Shown::kCount}},
              .rows = {}};
  // Cards of several makers: what is there is shown, in the card's order.
  const auto add = [&](const char* part) {
    if (!study.card.is_object() || !study.card.contains(part)) return;
    const auto& counts = study.card[part];
    if (!counts.is_object()) return;
    for (const auto& [key, value] : counts.items()) {
      std::string step = std::string(part) + ": " + key;
      std::replace(step.begin(), step.end(), '_', ' ');
      if (value.is_number()) table.add_row({step, value.get<double>()});
      if (!value.is_object()) continue;
      for (const auto& [reason, n] : value.items()) {
        if (n.is_number()) table.add_row({step + ", " + reason, n.get<double>()});
      }
    }
  };
  for (const char* part : {"rows", "duplicates", "tracks", "audio", "out_of_range"}) add(part);
  return table;
}

}  // namespace onpa::apps::report
