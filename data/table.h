// A whole CSV as a table of text cells; csv_reader.h reads one row by row.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace onpa::data {

/// All cells as text, column names from the header. Holds the text of the cells plus eight bytes a
/// cell.
class Table {
 public:
  /// All rows that a CsvReader gives; throws as it does.
  static Table read_csv(const std::filesystem::path& path);
  /// The same of `text`; `name` stands for the file in messages.
  static Table parse_csv(std::string text, const std::string& name);

  std::int64_t rows() const { return rows_; }
  const std::vector<std::string>& columns() const { return columns_; }
  /// Index of a column, or -1. find_any takes the first alias that is there.
  int find(std::string_view column) const;
  int find_any(const std::vector<std::string>& aliases) const;
  /// 0 <= row < rows(), 0 <= column < columns().size(); valid as long as the table.
  std::string_view cell(std::int64_t row, int column) const;
  /// Line of the file on which a row starts, 1-based.
  std::int64_t line(std::int64_t row) const { return lines_[row]; }
  const std::string& name() const { return name_; }

 private:
  explicit Table(class CsvReader& reader);

  std::string name_;
  std::vector<std::string> columns_;
  std::string text_;               // unescaped cells, back to back
  std::vector<std::size_t> ends_;  // end of cell (row * columns + column) in text_
  std::vector<std::int64_t> lines_;
  std::int64_t rows_ = 0;
};

/// The finite number that a whole cell spells; false for anything else (text, "", "nan", "1e999").
bool parse_number(std::string_view cell, double& value);

/// Appends a cell to a CSV line, with quoting where needed. Throws as csv_line.
void append_csv_cell(std::string& line, std::string_view cell);

/// One CSV line (with "\n") with quoting where needed; reading it gives back the same cells. Throws
/// Error if a cell holds a NUL byte, which CSV cannot carry.
std::string csv_line(const std::vector<std::string>& cells);

}  // namespace onpa::data
