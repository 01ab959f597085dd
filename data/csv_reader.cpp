#include "data/csv_reader.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "data/file.h"
#include "data/table.h"
#include "kernels/error.h"

namespace onpa::data {
namespace {

// Characters at which an unquoted cell ends, or that it must not hold.
constexpr std::array<bool, 256> kStops = [] {
  std::array<bool, 256> stops{};
  for (const char c : {',', '\n', '\r', '\0'}) stops[static_cast<unsigned char>(c)] = true;
  return stops;
}();

}  // namespace

void CsvReader::HashFree::operator()(XXH3_state_s* state) const {
  XXH3_freeState(state);
}

CsvReader::CsvReader(const std::filesystem::path& path, std::size_t piece_bytes)
    : name_(path.string()), piece_bytes_(std::max<std::size_t>(piece_bytes, 1)), complete_(false) {
  descriptor_ = open_to_read(path);
  try {
    start();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

CsvReader::CsvReader(std::string text, std::string name)
    : name_(std::move(name)), piece_bytes_(kPieceBytes), buffer_(std::move(text)) {
  start();
}

CsvReader::~CsvReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void CsvReader::start() {
  hash_.reset(XXH3_createState());
  ONPA_CHECK(hash_ != nullptr, name_, ": no memory for a hash");
  XXH3_64bits_reset(hash_.get());
  if (complete_) XXH3_64bits_update(hash_.get(), buffer_.data(), buffer_.size());
  while (buffer_.size() < 3 && refill()) {
  }
  if (buffer_.starts_with("\xEF\xBB\xBF")) begin_ = 3;
  if (buffer_.starts_with("\xFF\xFE") || buffer_.starts_with("\xFE\xFF")) {
    fail(ExitCode::kBadData, name_, ":1: UTF-16 text, want UTF-8");
  }
  if (!next_record()) fail(ExitCode::kBadData, name_, ": empty, want a CSV header");
  take_header();
}

void CsvReader::take_header() {
  std::unordered_map<std::string, std::size_t> seen;
  std::vector<std::string> columns;
  for (std::size_t c = 0; c < cells_.size(); ++c) {
    columns.emplace_back(cell(static_cast<int>(c)));
    if (c > 0 && columns[c].empty()) {
      fail(ExitCode::kBadData, name_, ":", record_line_, ": column ", c + 1,
           ": empty header (only the first column may have none)");
    }
    const auto [first, added] = seen.emplace(columns[c], c);
    if (!added) {
      fail(ExitCode::kBadData, name_, ":", record_line_, ": column ", c + 1, ": header \"",
           columns[c], "\" is also that of column ", first->second + 1);
    }
  }
  columns_ = std::move(columns);
}

bool CsvReader::next() {
  if (!next_record()) return false;
  if (cells_.size() != columns_.size()) {
    fail(ExitCode::kBadData, name_, ":", record_line_, ": ", cells_.size(), " cells, want ",
         columns_.size(), " as in the header");
  }
  return true;
}

std::string_view CsvReader::cell(int column) const {
  const Cell& c = cells_[static_cast<std::size_t>(column)];
  return std::string_view(c.unescaped ? unescaped_ : buffer_).substr(c.begin, c.end - c.begin);
}

int CsvReader::find(std::string_view column) const {
  const auto at = std::find(columns_.begin(), columns_.end(), column);
  return at == columns_.end() ? -1 : static_cast<int>(at - columns_.begin());
}

std::string CsvReader::hash() const {
  return hash_hex(XXH3_64bits_digest(hash_.get()));
}

// Drops what lies before begin_ and appends a piece of the file; false at its end. A record that is
// longer than the buffer doubles it, so that starting over costs twice its length at most.
bool CsvReader::refill() {
  if (complete_) return false;
  buffer_.erase(0, begin_);
  begin_ = 0;
  const std::size_t used = buffer_.size();
  buffer_.resize(used + std::max(piece_bytes_, used));
  ssize_t n = 0;
  do {
    n = ::read(descriptor_, buffer_.data() + used, buffer_.size() - used);
  } while (n < 0 && errno == EINTR);
  if (n < 0) fail(ExitCode::kIo, name_, ": cannot read: ", std::strerror(errno));
  buffer_.resize(used + static_cast<std::size_t>(n));
  XXH3_64bits_update(hash_.get(), buffer_.data() + used, static_cast<std::size_t>(n));
  complete_ = n == 0;
  return !complete_;
}

// The next record with at least one character; false at the end of the text.
bool CsvReader::next_record() {
  std::int64_t start_line = line_;
  for (;;) {
    line_ = start_line;
    const After after = parse_record();
    if (after != After::kMore) {
      begin_ = in_;
      return after != After::kEnd || !cells_.empty();
    }
    start_line = record_line_;
    refill();
  }
}

// Parses from begin_ on. kMore: the record may go on after buffer_, which complete_ tells; then
// begin_ and record_line_ are where it starts.
CsvReader::After CsvReader::parse_record() {
  cells_.clear();
  unescaped_.clear();
  in_ = begin_;
  record_line_ = line_;
  for (;;) {
    const std::size_t newline = in_ < buffer_.size() ? newline_length() : 0;
    if (newline == 0) break;
    in_ += newline;
    begin_ = in_;
    record_line_ = ++line_;
  }
  if (in_ == buffer_.size()) return complete_ ? After::kEnd : After::kMore;
  if (!complete_ && buffer_[in_] == '\r' && in_ + 1 == buffer_.size()) return After::kMore;
  After after = After::kCell;
  while (after == After::kCell) after = parse_cell();
  return after;
}

std::size_t CsvReader::newline_length() const {
  if (buffer_[in_] == '\n') return 1;
  return buffer_[in_] == '\r' && in_ + 1 < buffer_.size() && buffer_[in_ + 1] == '\n' ? 2 : 0;
}

// A cell and the delimiter after it. A carriage return may be the last character of the buffer and
// half a line end: then the next piece decides, as it does at the end of the buffer.
CsvReader::After CsvReader::parse_cell() {
  if (in_ < buffer_.size() && buffer_[in_] == '"') {
    if (parse_quoted() == After::kMore) return After::kMore;
  } else {
    const std::size_t begin = in_;
    while (in_ < buffer_.size() && !kStops[static_cast<unsigned char>(buffer_[in_])]) ++in_;
    cells_.push_back({begin, in_, false});
  }
  if (in_ == buffer_.size()) return complete_ ? After::kEnd : After::kMore;
  if (buffer_[in_] == ',') {
    ++in_;
    return After::kCell;
  }
  const std::size_t newline = newline_length();
  if (newline > 0) {
    in_ += newline;
    ++line_;
    return After::kRecord;
  }
  const bool last = in_ + 1 == buffer_.size();
  if (buffer_[in_] == '\r' && last && !complete_) return After::kMore;
  cells_.pop_back();  // messages name the cell that has just ended
  if (buffer_[in_] == '\0') fail_here(line_, "NUL byte");
  if (buffer_[in_] == '\r') {
    fail_here(line_, "carriage return without a line feed, want LF or CRLF line ends");
  }
  fail_here(line_, "text after a closing quote, want a comma or the end of the line");
}

// A quoted cell up to its closing quote; kCell if it is there.
CsvReader::After CsvReader::parse_quoted() {
  const std::int64_t open_line = line_;
  std::size_t begin = ++in_;
  std::size_t copied_from = std::string::npos;  // in unescaped_, once a doubled quote was met
  for (;;) {
    const std::size_t quote = buffer_.find('"', in_);
    const std::size_t end = std::min(quote, buffer_.size());
    if (std::memchr(buffer_.data() + in_, 0, end - in_) != nullptr) {
      fail_here(open_line, "NUL byte in a quoted cell");
    }
    // A quote at the end of the buffer may be the first of two.
    if (end + 1 >= buffer_.size() && !complete_) return After::kMore;
    if (quote == std::string::npos) fail_here(open_line, "quote opened here is never closed");
    line_ += std::count(buffer_.data() + in_, buffer_.data() + quote, '\n');
    const bool escaped = quote + 1 < buffer_.size() && buffer_[quote + 1] == '"';
    in_ = quote + (escaped ? 2 : 1);
    if (escaped && copied_from == std::string::npos) copied_from = unescaped_.size();
    if (copied_from != std::string::npos) {
      unescaped_.append(buffer_, begin, quote + (escaped ? 1 : 0) - begin);
      begin = in_;
    }
    if (escaped) continue;
    if (copied_from == std::string::npos) {
      cells_.push_back({begin, quote, false});
    } else {
      cells_.push_back({copied_from, unescaped_.size(), true});
    }
    return After::kCell;
  }
}

template <class... Parts>
void CsvReader::fail_here(std::int64_t line, const Parts&... parts) const {
  const std::size_t index = cells_.size();
  std::string column = "column " + std::to_string(index + 1);
  if (index < columns_.size() && !columns_[index].empty()) column += " (" + columns_[index] + ")";
  fail(ExitCode::kBadData, name_, ":", line, ": ", column, ": ", parts...);
}

}  // namespace onpa::data
