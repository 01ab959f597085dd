#include "data/table.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "tests/data/support.h"

namespace onpa::data {
namespace {

using testing::expect_error;

using Rows = std::vector<std::vector<std::string>>;

Rows cells_of(const Table& table) {
  Rows rows;
  for (std::int64_t r = 0; r < table.rows(); ++r) {
    rows.emplace_back();
    for (int c = 0; c < std::ssize(table.columns()); ++c)
      rows.back().emplace_back(table.cell(r, c));
  }
  return rows;
}

Table parse(const std::string& text) {
  return Table::parse_csv(text, "t.csv");
}

void expect_bad(const std::string& text, const std::vector<std::string>& parts) {
  expect_error(ExitCode::kBadData, parts, [&] { parse(text); });
}

TEST(Table, ReadsPlainCells) {
  const Table table = parse("a,b\n1,x y\n,\n");
  EXPECT_EQ(table.columns(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(cells_of(table), (Rows{{"1", "x y"}, {"", ""}}));
  EXPECT_EQ(table.name(), "t.csv");
}

TEST(Table, ReadsQuotes) {
  const Table table =
      parse("name,n\n\"a, b\",1\n\"say \"\"hi\"\"\",2\n\"two\nlines\r\n\",3\n\"\",4\n");
  EXPECT_EQ(cells_of(table),
            (Rows{{"a, b", "1"}, {"say \"hi\"", "2"}, {"two\nlines\r\n", "3"}, {"", "4"}}));
}

TEST(Table, KeepsQuotesInsidePlainCells) {
  EXPECT_EQ(cells_of(parse("a,b\n5\" disc,it's \"x\"\n")), (Rows{{"5\" disc", "it's \"x\""}}));
}

TEST(Table, TakesByteOrderMarkCrlfAndNoFinalNewline) {
  const Table table = parse("\xEF\xBB\xBFgenre,id\r\nrock,1\r\n\"pop\",");
  EXPECT_EQ(table.find("genre"), 0);
  EXPECT_EQ(cells_of(table), (Rows{{"rock", "1"}, {"pop", ""}}));
}

TEST(Table, TakesAnEmptyFirstHeader) {
  const Table table = parse(",track_id\n0,abc\n");
  EXPECT_EQ(table.columns(), (std::vector<std::string>{"", "track_id"}));
  EXPECT_EQ(table.cell(0, 1), "abc");
}

TEST(Table, SkipsBlankLinesAndKeepsLineNumbers) {
  const Table table = parse("\na,b\n\n1,\"x\n\ny\"\r\n\r\n2,z\n\n\n");
  ASSERT_EQ(table.rows(), 2);
  EXPECT_EQ(table.line(0), 4);
  EXPECT_EQ(table.line(1), 8);
}

TEST(Table, HeaderAloneHasNoRows) {
  EXPECT_EQ(parse("a,b").rows(), 0);
  EXPECT_EQ(parse("a\n").rows(), 0);
}

TEST(Table, FindsColumnsByAlias) {
  const Table table = parse("track_genre,popularity\n");
  EXPECT_EQ(table.find("genre"), -1);
  EXPECT_EQ(table.find_any({"genre", "track_genre", "playlist_genre"}), 0);
  EXPECT_EQ(table.find_any({"x"}), -1);
}

TEST(Table, RejectsRaggedRows) {
  expect_bad("a,b\n1,2\n3\n", {"t.csv:3", "1 cells", "want 2"});
  expect_bad("a,b\n\"x\ny\",2\n1,2,3\n", {"t.csv:4", "3 cells", "want 2"});
}

TEST(Table, RejectsBrokenQuotes) {
  expect_bad("a,b\n1,2\n3,\"never\nclosed\n", {"t.csv:3", "column 2 (b)", "never closed"});
  expect_bad("a,b\n\"x\"y,2\n", {"t.csv:2", "column 1 (a)", "after a closing quote"});
}

TEST(Table, RejectsNulBytes) {
  expect_bad(std::string("a,b\n1,2\n1,x\0y\n", 14), {"t.csv:3", "column 2 (b)", "NUL"});
  expect_bad(std::string("a,b\n\"\0\",2\n", 10), {"t.csv:2", "column 1 (a)", "NUL"});
  expect_bad(std::string("\0\0\0\0", 4), {"t.csv:1", "column 1", "NUL"});
}

TEST(Table, RejectsBadHeaders) {
  expect_bad("a,b,a\n", {"t.csv:1", "column 3", "\"a\"", "column 1"});
  expect_bad("a,,b\n", {"t.csv:1", "column 2", "empty header"});
  expect_bad("", {"t.csv", "empty"});
  expect_bad("\n\r\n\n", {"t.csv", "empty"});
}

TEST(Table, RejectsOtherEncodingsAndLineEnds) {
  expect_bad(std::string("\xFF\xFE"
                         "a\0",
                         4),
             {"t.csv:1", "UTF-16"});
  expect_bad("a,b\r1,2\r", {"t.csv:1", "column 2", "carriage return"});
}

TEST(Table, ReadsFiles) {
  const testing::TempFolder folder;
  testing::write_bytes(folder / "x.csv", "a\n1\n");
  EXPECT_EQ(Table::read_csv(folder / "x.csv").cell(0, 0), "1");
  expect_error(ExitCode::kInputMissing, {"none.csv"},
               [&] { Table::read_csv(folder / "none.csv"); });
  expect_error(ExitCode::kIo, {folder.path().string()}, [&] { Table::read_csv(folder.path()); });
}

TEST(Table, WrittenLinesReadBackTheSame) {
  const auto cell = rc::gen::container<std::string>(
      rc::gen::oneOf(rc::gen::elementOf(std::string(",\"\n\r;' a1")),
                     rc::gen::distinctFrom(rc::gen::arbitrary<char>(), '\0')));
  const bool same = rc::check([&] {
    const auto columns = *rc::gen::inRange<std::size_t>(1, 7);
    const Rows rows =
        *rc::gen::container<Rows>(rc::gen::container<std::vector<std::string>>(columns, cell));
    std::vector<std::string> header;
    for (std::size_t c = 0; c < columns; ++c) header.push_back("c" + std::to_string(c));
    std::string text = csv_line(header);
    for (const auto& row : rows) text += csv_line(row);
    const Table table = parse(text);
    RC_ASSERT(table.columns() == header);
    RC_ASSERT(cells_of(table) == rows);
  });
  EXPECT_TRUE(same);
}

TEST(Table, AnyTextGivesATableOrAnError) {
  const auto text =
      rc::gen::container<std::string>(rc::gen::elementOf(std::string("\0,,,\"\"\n\n\r\xEF\xBB\xBF"
                                                                     "ab",
                                                                     14)));
  const bool safe = rc::check([&] {
    try {
      const Table table = parse(*text);
      RC_ASSERT(!table.columns().empty());
      cells_of(table);
    } catch (const Error& e) {
      RC_ASSERT(e.code() == ExitCode::kBadData);
    }
  });
  EXPECT_TRUE(safe);
}

TEST(Table, RefusesToWriteNul) {
  expect_error(ExitCode::kInternal, {"NUL"}, [] { csv_line({std::string("\0", 1)}); });
}

TEST(ParseNumber, TakesWholeFiniteNumbersOnly) {
  double value = 7;
  for (const char* text : {"", " ", "nan", "NaN", "inf", "-Infinity", "1e999", "-1e999", "1,5",
                           "1.5x", "x", " 1", "1 ", "0x10", "--1", "1e", "True", "+1"}) {
    EXPECT_FALSE(parse_number(text, value)) << text;
  }
  EXPECT_EQ(value, 7);
  const std::vector<std::pair<const char*, double>> good = {
      {"0", 0},        {"-0.5", -0.5}, {"1e-3", 1e-3}, {"123456789012", 123456789012.0},
      {"5.", 5},       {".25", 0.25},  {"1E2", 100},   {"4.9e-324", 4.9e-324},
      {"1e308", 1e308}};
  for (const auto& [text, want] : good) {
    EXPECT_TRUE(parse_number(text, value)) << text;
    EXPECT_EQ(value, want);
  }
}

}  // namespace
}  // namespace onpa::data
