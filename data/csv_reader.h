// Records of a CSV, one after the other, from a file of any size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct XXH3_state_s;

namespace onpa::data {

/// Reads a CSV: quotes (commas, quotes and newlines inside), BOM, CRLF or LF, an empty first header
/// (a row index), no final newline, quotes in the middle of an unquoted cell (kept as they are),
/// blank lines (skipped). Holds a piece of the file, at least the longest record, and no more.
/// Source: RFC 4180.
///
/// The constructors and next() throw Error (kBadData) naming file, line and column for ragged rows,
/// an unclosed quote, text after a closing quote, NUL bytes, a bare carriage return, empty or
/// duplicate headers, a file without a header; kInputMissing or kIo if it cannot be read.
class CsvReader {
 public:
  static constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

  /// Reads the header. A file is read `piece_bytes` at a time.
  explicit CsvReader(const std::filesystem::path& path, std::size_t piece_bytes = kPieceBytes);
  /// The same of `text`; `name` stands for the file in messages.
  CsvReader(std::string text, std::string name);
  ~CsvReader();
  CsvReader(const CsvReader&) = delete;
  CsvReader& operator=(const CsvReader&) = delete;

  /// Goes to the next row; false at the end.
  bool next();
  /// Of the row that next() went to, valid until it is called again; 0 <= column <
  /// columns().size().
  std::string_view cell(int column) const;
  /// Line of the file on which the row starts, 1-based.
  std::int64_t line() const { return record_line_; }

  const std::vector<std::string>& columns() const { return columns_; }
  /// Index of a column, or -1.
  int find(std::string_view column) const;
  const std::string& name() const { return name_; }
  /// xxh3-64 of the bytes, as hex; after next() has returned false.
  std::string hash() const;

 private:
  enum class After { kCell, kRecord, kEnd, kMore };
  struct Cell {
    std::size_t begin, end;  // in buffer_, or in unescaped_ of a cell with doubled quotes
    bool unescaped;
  };
  struct HashFree {
    void operator()(XXH3_state_s* state) const;
  };

  void start();
  void take_header();
  bool refill();
  bool next_record();
  After parse_record();
  After parse_cell();
  After parse_quoted();
  std::size_t newline_length() const;
  template <class... Parts>
  [[noreturn]] void fail_here(std::int64_t line, const Parts&... parts) const;

  std::string name_;
  int descriptor_ = -1;
  std::size_t piece_bytes_;
  std::string buffer_;    // from the record at begin_ on
  bool complete_ = true;  // nothing of the file comes after buffer_
  std::unique_ptr<XXH3_state_s, HashFree> hash_;

  std::vector<std::string> columns_;
  std::vector<Cell> cells_;
  std::string unescaped_;
  std::size_t begin_ = 0, in_ = 0;
  std::int64_t line_ = 1, record_line_ = 1;
};

}  // namespace onpa::data
