#include "data/table.h"

#include <fast_float/fast_float.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "data/csv_reader.h"
#include "kernels/error.h"

namespace onpa::data {

Table::Table(CsvReader& reader) : name_(reader.name()), columns_(reader.columns()) {
  while (reader.next()) {
    for (int c = 0; c < std::ssize(columns_); ++c) {
      text_ += reader.cell(c);
      ends_.push_back(text_.size());
    }
    lines_.push_back(reader.line());
  }
  rows_ = std::ssize(lines_);
}

Table Table::read_csv(const std::filesystem::path& path) {
  CsvReader reader(path);
  return Table(reader);
}

Table Table::parse_csv(std::string text, const std::string& name) {
  CsvReader reader(std::move(text), name);
  return Table(reader);
}

int Table::find(std::string_view column) const {
  const auto at = std::find(columns_.begin(), columns_.end(), column);
  return at == columns_.end() ? -1 : static_cast<int>(at - columns_.begin());
}

int Table::find_any(const std::vector<std::string>& aliases) const {
  for (const std::string& alias : aliases) {
    const int column = find(alias);
    if (column >= 0) return column;
  }
  return -1;
}

std::string_view Table::cell(std::int64_t row, int column) const {
  const std::size_t i =
      static_cast<std::size_t>(row) * columns_.size() + static_cast<std::size_t>(column);
  const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
  return std::string_view(text_).substr(begin, ends_[i] - begin);
}

bool parse_number(std::string_view cell, double& value) {
  double parsed = 0;
  const auto [end, error] = fast_float::from_chars(cell.data(), cell.data() + cell.size(), parsed);
  if (error != std::errc{} || end != cell.data() + cell.size() || !std::isfinite(parsed)) {
    return false;
  }
  value = parsed;
  return true;
}

void append_csv_cell(std::string& line, std::string_view cell) {
  ONPA_CHECK(cell.find('\0') == std::string_view::npos, "csv: cell with a NUL byte");
  // At the start of a file, what looks like a byte order mark (of UTF-8 or UTF-16) would be taken
  // for one; behind a quote it is a part of the cell.
  const bool mark = cell.starts_with("\xEF\xBB\xBF") || cell.starts_with("\xFE\xFF") ||
                    cell.starts_with("\xFF\xFE");
  if (!mark && cell.find_first_of(",\"\r\n") == std::string_view::npos) {
    line += cell;
    return;
  }
  line += '"';
  for (const char c : cell) {
    if (c == '"') line += '"';
    line += c;
  }
  line += '"';
}

std::string csv_line(const std::vector<std::string>& cells) {
  if (cells.size() == 1 && cells[0].empty()) return "\"\"\n";  // a blank line would be skipped
  std::string line;
  for (const std::string& cell : cells) {
    if (&cell != cells.data()) line += ',';
    append_csv_cell(line, cell);
  }
  return line + '\n';
}

}  // namespace onpa::data
