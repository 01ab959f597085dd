// Any bytes as a CSV: the same cells in pieces of any size, and again after they were written.
#include <string>
#include <vector>

#include "data/csv_reader.h"
#include "data/table.h"
#include "tests/fuzz/target.h"

namespace {

using Rows = std::vector<std::vector<std::string>>;

Rows all_rows(onpa::data::CsvReader& reader) {
  Rows rows = {reader.columns()};
  const auto columns = static_cast<int>(reader.columns().size());
  while (reader.next()) {
    rows.emplace_back();
    for (int c = 0; c < columns; ++c) rows.back().emplace_back(reader.cell(c));
  }
  return rows;
}

}  // namespace

ONPA_FUZZ_TARGET(csv, bytes) {
  using namespace onpa;
  const auto allowed = {ExitCode::kBadData};
  Rows rows;
  const bool good = fuzz::survives(allowed, [&] {
    data::CsvReader reader(std::string(fuzz::text_of(bytes)), "input");
    rows = all_rows(reader);
  });
  const fuzz::MemoryFile file(bytes);
  Rows pieces;
  const bool good_in_pieces = fuzz::survives(allowed, [&] {
    data::CsvReader reader(file.path(), 1 + bytes.size() % 7);
    pieces = all_rows(reader);
  });
  fuzz::require(good == good_in_pieces, "an error depends on the pieces");
  if (!good) return;
  fuzz::require(rows == pieces, "cells depend on the pieces");
  std::string text;
  for (const auto& row : rows) text += data::csv_line(row);
  Rows again;
  fuzz::require(fuzz::survives(allowed,
                               [&] {
                                 data::CsvReader reader(text, "written");
                                 again = all_rows(reader);
                               }),
                "what was written is refused");
  fuzz::require(rows == again, "what was written reads otherwise");
}
