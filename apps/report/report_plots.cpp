#include <algorithm>
#include <cmath>
#include <set>

#include "apps/report/report_answer.h"
#include "apps/report/report_page.h"
#include "apps/report/report_text.h"
#include "apps/report/svg_plots.h"

namespace onpa::apps::report {
namespace {

SeriesStyle style_of(const Study& study, const std::string& model) {
  const bool first = !study.models.empty() && model == study.models.front();
  const bool known = model == "passt" || model == "dense";
  return {.name = model_name(model),
          .key = known ? model : "third",
          .second = known ? model == "dense" : !first};
}

std::string figure(const std::string& title, const std::string& drawing,
                   const std::string& caption) {
  if (drawing.empty()) return "";
  return "<figure><h3>" + escape(title) + "</h3>\n" + drawing +
         (caption.empty() ? "" : "<figcaption>" + escape(caption) + "</figcaption>") +
         "</figure>\n";
}

std::string in_grid(const std::string& figures, const std::string& kind = "plots") {
  return figures.empty() ? "" : "<div class=\"" + kind + "\">\n" + figures + "</div>\n";
}

// Rows of the bar plots in the order of table 2.
std::vector<const Scope*> by_first_model(const Study& study) {
  std::vector<const Scope*> order;
  for (const Scope& scope : study.scopes) order.push_back(&scope);
  const auto mae = [&](const Scope* scope) {
    const Cell* cell = study.models.empty() ? nullptr : scope->done(study.models.front());
    return cell != nullptr && std::isfinite(cell->errors.mae) ? cell->errors.mae : INFINITY;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const Scope* a, const Scope* b) { return mae(a) < mae(b); });
  return order;
}

std::string mae_text(const Cell& cell) {
  std::string text = "MAE " + error_text(cell.errors.mae);
  if (cell.mae_interval.known()) {
    text += " (" + error_text(cell.mae_interval.low) + " to " + error_text(cell.mae_interval.high) +
            ")";
  }
  return text;
}

BarRow bar_row(const Study& study, const Scope& scope) {
  BarRow row{.name = scope.name, .mark = &scope == &study.all(), .values = {}};
  for (const std::string& model : study.models) {
    const Cell* cell = scope.done(model);
    if (cell == nullptr) {
      row.values.push_back({kUnknown, kUnknown, kUnknown, model_name(model) + ": not known"});
    } else {
      row.values.push_back({cell->errors.mae, cell->mae_interval.low, cell->mae_interval.high,
                            model_name(model) + ": " + mae_text(*cell)});
    }
  }
  return row;
}

std::string bars(const Study& study, std::vector<SeriesStyle> series) {
  const std::vector<const Scope*> order = by_first_model(study);
  double most = 0;
  std::vector<BarRow> rows;
  for (const Scope* scope : order) {
    rows.push_back(bar_row(study, *scope));
    for (const BarValue& value : rows.back().values) {
      most = std::fmax(most, std::fmax(value.value, value.high));
    }
  }
  if (!(most > 0)) return "";
  // Up to three panels side by side, so that an axis is never far away.
  constexpr std::size_t kRows = 14, kMostPanels = 3;
  const std::size_t panels = std::min(kMostPanels, (rows.size() + kRows - 1) / kRows);
  const std::size_t per_panel = (rows.size() + panels - 1) / panels;
  const double high = 1.03 * most;
  std::string out;
  for (std::size_t from = 0; from < rows.size(); from += per_panel) {
    const std::size_t to = std::min(rows.size(), from + per_panel);
    const std::vector<BarRow> part(rows.begin() + static_cast<std::ptrdiff_t>(from),
                                   rows.begin() + static_cast<std::ptrdiff_t>(to));
    const std::string which = panels == 1
                                  ? "MAE of each genre"
                                  : "MAE of each genre, " + std::to_string(from + 1) + " to " +
                                        std::to_string(to) + " of " + std::to_string(rows.size());
    out +=
        "<figure>" +
        bar_plot(which + ", bars with " + study.level() + " intervals; the numbers are in table 2",
                 "MAE (" + study.unit() + ")", high, series, part) +
        "</figure>\n";
  }
  return out;
}

// Both models' errors and ranks of each scope that has both.
struct Compared {
  std::vector<ScatterPoint> errors, ranks;
  double flipped = 0, largest = 0, last = 0;
};

Compared compared(const Study& study) {
  Compared out;
  std::set<std::string> flipped;
  for (const Flip& flip : flips(study)) flipped.insert(flip.genre);
  out.flipped = static_cast<double>(flipped.size());
  for (const Scope& scope : study.scopes) {
    const Cell* passt = scope.done("passt");
    const Cell* dense = scope.done("dense");
    if (passt == nullptr || dense == nullptr) continue;
    if (!std::isfinite(passt->errors.mae) || !std::isfinite(dense->errors.mae)) continue;
    const auto line = [](const char* model, const Cell& cell) {
      return std::string("\n") + model + ": " + mae_text(cell) + ", rank " + grouped(cell.rank);
    };
    ScatterPoint point{.x = passt->errors.mae,
                       .y = dense->errors.mae,
                       .name = scope.name,
                       .tip = scope.name + line("PaSST", *passt) + line("Dense", *dense),
                       .kind = &scope == &study.all()         ? PointKind::kMarked
                               : flipped.contains(scope.name) ? PointKind::kOther
                                                              : PointKind::kPlain};
    out.errors.push_back(point);
    out.largest = std::max({out.largest, point.x, point.y});
    if (!std::isfinite(passt->rank) || !std::isfinite(dense->rank)) continue;
    point.x = passt->rank;
    point.y = dense->rank;
    out.ranks.push_back(point);
    out.last = std::max({out.last, point.x, point.y});
  }
  return out;
}

std::string comparisons(const Study& study) {
  const Compared points = compared(study);
  if (points.errors.size() < 2 || !(points.largest > 0)) return "";
  std::string errors = "Below the dashed line Dense has the smaller error.";
  if (points.flipped > 0) errors += " Diamonds: the order is not that of all data (square).";
  std::string ranks = "Rank 1 is a model's smallest error. On the dashed line both give one rank.";
  if (study.rank_correlation && std::isfinite(study.rank_correlation->mae)) {
    const double p = study.rank_correlation->p;
    ranks += " Spearman's correlation: " + fixed(study.rank_correlation->mae, 3) + " (p " +
             (p < 0.001 ? "" : "= ") + p_text(p) + ", " +
             counted(study.ranked_rows, "row", "rows") + ").";
  }
  return figure("Error against error",
                square_plot("MAE of each genre by PaSST against that by Dense", "MAE of PaSST",
                            "MAE of Dense", 0, 1.04 * points.largest, points.errors),
                errors) +
         figure("Rank against rank",
                square_plot("Rank of each genre by PaSST against its rank by Dense",
                            "rank by PaSST's MAE", "rank by Dense's MAE", 0,
                            points.last + std::max(1.0, 0.03 * points.last), points.ranks),
                ranks);
}

std::vector<double> card_counts(const Study& study, const char* part) {
  std::vector<double> out;
  if (!study.card.is_object() || !study.card.contains("popularity_histogram")) return out;
  const auto& histogram = study.card["popularity_histogram"];
  if (!histogram.is_object() || !histogram.contains(part) || !histogram[part].is_array())
    return out;
  for (const auto& count : histogram[part])
    out.push_back(count.is_number() ? count.get<double>() : 0);
  return out;
}

double card_bin_width(const Study& study) {
  if (!study.card.is_object() || !study.card.contains("popularity_histogram")) return 0;
  const auto& histogram = study.card["popularity_histogram"];
  const bool known = histogram.is_object() && histogram.contains("bin_width") &&
                     histogram["bin_width"].is_number();
  return known ? histogram["bin_width"].get<double>() : 0;
}

}  // namespace

std::string genres_plots(const Study& study) {
  if (study.scopes.size() < 2) return "";
  std::vector<SeriesStyle> series;
  for (const std::string& model : study.models) series.push_back(style_of(study, model));
  const std::string drawn = bars(study, series);
  std::string out;
  if (!drawn.empty()) {
    out = "<h3>Error of each genre</h3>\n" + legend(series, true) + in_grid(drawn) +
          "<p class=\"note\">In the order of the table below; whiskers are " +
          escape(study.level()) + " intervals.</p>\n";
  }
  return out + in_grid(comparisons(study));
}

std::string curves_plots(const Study& study) {
  std::string out;
  for (const std::string& model : study.models) {
    const Cell* cell = study.all().done(model);
    if (cell == nullptr) continue;
    const SeriesStyle style = style_of(study, model);
    const auto series = [&](const std::vector<Cell::CurvePoint>& curve, const std::string& what) {
      Series line{.style = style, .points = {}, .tips = {}};
      for (const Cell::CurvePoint& point : curve) {
        line.points.emplace_back(point.epoch, point.value);
        line.tips.push_back("epoch " + significant(point.epoch, 3) + ": " + what + " " +
                            significant(point.value, 4));
      }
      return line;
    };
    out += figure(model_name(model) + ": training loss",
                  line_plot("Training loss of " + model_name(model) + " over its epochs", "epoch",
                            "loss", {series(cell->loss, "loss")}, true),
                  "");
    out += figure(
        model_name(model) + ": test error while training",
        line_plot("RMSE of " + model_name(model) + " on the test tracks over its epochs", "epoch",
                  "RMSE (" + study.unit() + ")", {series(cell->test_rmse, "RMSE")}, false),
        "");
  }
  return in_grid(out, "plots pairs");
}

std::string popularity_plots(const Study& study) {
  const double width = card_bin_width(study);
  if (!(width > 0)) return "";
  const auto plot = [&](const std::string& title, const std::string& label, Histogram histogram,
                        const std::string& caption) {
    histogram.bin_width = width;
    return figure(title, histogram_plot(label, "popularity (points of 100)", histogram), caption);
  };
  return in_grid(plot("Train tracks", "Train tracks by popularity, before and after undersampling",
                      {.before = card_counts(study, "train"),
                       .after = card_counts(study, "train_kept"),
                       .before_name = "train, before",
                       .after_name = "train, after undersampling",
                       .key = "passt"},
                      "Outlined: before undersampling. Filled: the tracks that are trained on.") +
                 plot("Test tracks", "Test tracks by popularity",
                      {.before = {},
                       .after = card_counts(study, "test"),
                       .before_name = "",
                       .after_name = "test",
                       .key = "third"},
                      "As they are in the source: nothing is taken out."));
}

std::string errors_plots(const Study& study) {
  std::string out;
  for (const std::string& model : study.models) {
    const auto found = study.true_by_predicted.find(model);
    if (found == study.true_by_predicted.end()) continue;
    const TrueByPredicted& counts = found->second;
    out += figure(
        model_name(model) + ": predicted against true",
        heat_plot("Predicted against true popularity of the test tracks, " + model_name(model),
                  "true popularity (points)", "predicted popularity (points)", counts.low,
                  counts.high, counts.counts, style_of(study, model).key),
        "Darker: more tracks, on a logarithmic scale. Dashed: a perfect prediction. Line: the "
        "mean prediction for each true popularity.");
  }
  std::vector<Series> lines;
  std::vector<SeriesStyle> styles;
  for (const std::string& model : study.models) {
    Series line{.style = style_of(study, model), .points = {}, .tips = {}};
    for (const ErrorBin& bin : study.error_bins) {
      const auto mae = bin.mae.find(model);
      if (mae == bin.mae.end() || !std::isfinite(mae->second)) continue;
      line.points.emplace_back((bin.low + bin.high) / 2, study.points(mae->second));
      line.tips.push_back(model_name(model) + ", popularity " + significant(bin.low, 3) + " to " +
                          significant(bin.high, 3) + ": MAE " +
                          fixed(study.points(mae->second), 1) + " points, " +
                          counted(bin.n, "track", "tracks"));
    }
    if (line.points.empty()) continue;
    styles.push_back(line.style);
    lines.push_back(std::move(line));
  }
  const std::string drawn = line_plot("Mean absolute error of each model by true popularity",
                                      "true popularity (points)", "MAE (points)", lines, true);
  if (!drawn.empty()) {
    out += figure("Error by true popularity", legend(styles, false) + drawn,
                  "How far a model is off for tracks that nobody hears and for hits.");
  }
  return in_grid(out);
}

}  // namespace onpa::apps::report
