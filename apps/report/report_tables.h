// Tables as data, and as HTML, Markdown, CSV and JSON.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apps/report/report_study.h"

namespace onpa::apps::report {

/// How a value is shown. CSV and JSON always have the number itself.
enum class Shown {
  kText,
  kCount,
  kError,        // target units
  kSignedError,  // the same with its sign
  kRatio,        // three digits
  kPoints,       // popularity points, one digit
  kHours,        // three significant digits
  kDuration,     // of seconds
  kBytes,
  kEnergy,  // of joules, in kWh
  kP,
};

struct Column {
  std::string key;      // in CSV and JSON
  std::string heading;  // for a person
  Shown shown = Shown::kText;
  std::string group = {};  // stands above neighbouring columns of one group
  // The two columns that follow hold low and high of an interval, which is shown with this value.
  bool has_interval = false;
};

/// Unknown, text or a number (NaN: unknown).
struct Value {
  Value() = default;
  Value(std::string text) : text(std::move(text)), is_text(true) {}
  Value(const char* text) : text(text), is_text(true) {}
  Value(double number) : number(number) {}
  std::string text;
  double number = kUnknown;
  bool is_text = false;
};

struct Table {
  std::string name;   // of the files
  std::string title;  // one line
  std::vector<Column> columns;
  std::vector<std::vector<Value>> rows;
  std::vector<bool> marked = {};  // rows that stand out; empty or one a row
  bool sortable = false;

  void add_row(std::vector<Value> values, bool mark = false);
};

std::string table_html(const Table& table);
std::string table_markdown(const Table& table);
std::string table_csv(const Table& table);
std::string table_json(const Table& table);

/// Models, variants, baselines and peers on all data.
Table results_table(const Study& study);
/// What each variant changed; without rows if there are none.
Table variants_table(const Study& study);
/// Every scope: error, interval and rank of each model, their difference. Ascending by the error
/// of the first model.
Table genres_table(const Study& study);
Table error_bins_table(const Study& study);
Table worst_table(const Study& study);
Table slowest_table(const Study& study);
/// Time, memory and energy of each model on all data and over all genres.
Table cost_table(const Study& study);
Table failed_table(const Study& study);
/// Tracks at each step from the source to the test split.
Table counts_table(const Study& study);

}  // namespace onpa::apps::report
