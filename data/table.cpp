#include "data/table.h"

#include <fast_float/fast_float.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "data/file.h"
#include "kernels/error.h"

namespace onpa::data {

// Parses in place: an unescaped cell is never longer than its source, so cells are moved towards
// the front of the text that they were read from.
class CsvParser {
 public:
  explicit CsvParser(Table& table) : table_(table), text_(table.text_) {}

  void run() {
    skip_byte_order_mark();
    // One cell needs one delimiter, so this bounds their number (quoted commas make it a bit high).
    table_.ends_.reserve(static_cast<std::size_t>(std::count(text_.begin(), text_.end(), ',') +
                                                  std::count(text_.begin(), text_.end(), '\n') +
                                                  1));
    if (!parse_record()) fail(ExitCode::kBadData, table_.name_, ": empty, want a CSV header");
    take_header();
    while (parse_record()) {
      if (cells_ != table_.columns_.size()) {
        fail(ExitCode::kBadData, table_.name_, ":", record_line_, ": ", cells_, " cells, want ",
             table_.columns_.size(), " as in the header");
      }
      table_.lines_.push_back(record_line_);
    }
    table_.rows_ = static_cast<std::int64_t>(table_.lines_.size());
    text_.resize(out_);
  }

 private:
  enum class After { kCell, kRecord, kEnd };

  void skip_byte_order_mark() {
    if (text_.starts_with("\xEF\xBB\xBF")) in_ = 3;
    if (text_.starts_with("\xFF\xFE") || text_.starts_with("\xFE\xFF")) {
      fail(ExitCode::kBadData, table_.name_, ":1: UTF-16 text, want UTF-8");
    }
  }

  template <class... Parts>
  [[noreturn]] void fail_here(std::int64_t line, const Parts&... parts) const {
    std::string column = "column " + std::to_string(cells_ + 1);
    if (cells_ < table_.columns_.size() && !table_.columns_[cells_].empty()) {
      column += " (" + table_.columns_[cells_] + ")";
    }
    fail(ExitCode::kBadData, table_.name_, ":", line, ": ", column, ": ", parts...);
  }

  // The next record with at least one character; false at the end of the text.
  bool parse_record() {
    while (in_ < text_.size()) {
      const std::size_t newline = newline_length();
      if (newline == 0) break;
      in_ += newline;
      ++line_;
    }
    if (in_ == text_.size()) return false;
    record_line_ = line_;
    cells_ = 0;
    After after = After::kCell;
    while (after == After::kCell) {
      if (in_ < text_.size() && text_[in_] == '"') {
        move_quoted();
      } else {
        move_plain();
      }
      after = skip_delimiter();
      table_.ends_.push_back(out_);
      ++cells_;
    }
    return true;
  }

  std::size_t newline_length() const {
    if (text_[in_] == '\n') return 1;
    return text_[in_] == '\r' && in_ + 1 < text_.size() && text_[in_ + 1] == '\n' ? 2 : 0;
  }

  void move(std::size_t begin, std::size_t end) {
    std::memmove(text_.data() + out_, text_.data() + begin, end - begin);
    out_ += end - begin;
  }

  void move_plain() {
    const std::size_t begin = in_;
    while (in_ < text_.size() && !kStops[static_cast<unsigned char>(text_[in_])]) ++in_;
    move(begin, in_);
  }

  void move_quoted() {
    const std::int64_t open_line = line_;
    ++in_;
    for (;;) {
      const std::size_t quote = text_.find('"', in_);
      const std::size_t end = std::min(quote, text_.size());
      if (std::memchr(text_.data() + in_, 0, end - in_) != nullptr) {
        fail_here(open_line, "NUL byte in a quoted cell");
      }
      if (quote == std::string::npos) fail_here(open_line, "quote opened here is never closed");
      line_ += std::count(text_.begin() + static_cast<std::ptrdiff_t>(in_),
                          text_.begin() + static_cast<std::ptrdiff_t>(quote), '\n');
      const bool escaped = quote + 1 < text_.size() && text_[quote + 1] == '"';
      move(in_, quote + (escaped ? 1 : 0));
      in_ = quote + (escaped ? 2 : 1);
      if (!escaped) return;
    }
  }

  After skip_delimiter() {
    if (in_ == text_.size()) return After::kEnd;
    if (text_[in_] == ',') {
      ++in_;
      return After::kCell;
    }
    const std::size_t newline = newline_length();
    if (newline > 0) {
      in_ += newline;
      ++line_;
      return After::kRecord;
    }
    if (text_[in_] == '\0') fail_here(line_, "NUL byte");
    if (text_[in_] == '\r') {
      fail_here(line_, "carriage return without a line feed, want LF or CRLF line ends");
    }
    fail_here(line_, "text after a closing quote, want a comma or the end of the line");
  }

  void take_header() {
    std::unordered_map<std::string, std::size_t> seen;
    std::size_t begin = 0;
    std::vector<std::string> columns;
    for (std::size_t c = 0; c < cells_; ++c) {
      columns.push_back(text_.substr(begin, table_.ends_[c] - begin));
      begin = table_.ends_[c];
      if (c > 0 && columns[c].empty()) {
        fail(ExitCode::kBadData, table_.name_, ":", record_line_, ": column ", c + 1,
             ": empty header (only the first column may have none)");
      }
      const auto [first, added] = seen.emplace(columns[c], c);
      if (!added) {
        fail(ExitCode::kBadData, table_.name_, ":", record_line_, ": column ", c + 1, ": header \"",
             columns[c], "\" is also that of column ", first->second + 1);
      }
    }
    table_.columns_ = std::move(columns);
    table_.ends_.clear();
    out_ = 0;
  }

  // Characters at which an unquoted cell ends, or that it must not hold.
  static constexpr std::array<bool, 256> kStops = [] {
    std::array<bool, 256> stops{};
    for (const char c : {',', '\n', '\r', '\0'}) stops[static_cast<unsigned char>(c)] = true;
    return stops;
  }();

  Table& table_;
  std::string& text_;
  std::size_t in_ = 0, out_ = 0;
  std::int64_t line_ = 1, record_line_ = 1;
  std::size_t cells_ = 0;  // of the current record
};

Table Table::read_csv(const std::filesystem::path& path) {
  return parse_csv(read_file(path), path.string());
}

Table Table::parse_csv(std::string text, const std::string& name) {
  Table table;
  table.name_ = name;
  table.text_ = std::move(text);
  CsvParser(table).run();
  return table;
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

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells) {
    ONPA_CHECK(cell.find('\0') == std::string::npos, "csv: cell with a NUL byte");
    if (&cell != cells.data()) line += ',';
    const bool alone_and_empty = cells.size() == 1 && cell.empty();
    if (!alone_and_empty && cell.find_first_of(",\"\r\n") == std::string::npos) {
      line += cell;
      continue;
    }
    line += '"';
    for (const char c : cell) {
      if (c == '"') line += '"';
      line += c;
    }
    line += '"';
  }
  return line + '\n';
}

}  // namespace onpa::data
