#include "data/csv_reader.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <xxhash.h>

#include <set>

#include "data/file.h"
#include "data/id_index.h"
#include "data/table.h"
#include "tests/data/support.h"

namespace onpa::data {
namespace {

using testing::expect_error;

// Everything that a reader says about a file: rows with their lines, or the error.
std::string account_of(CsvReader& reader) {
  std::string text;
  for (const std::string& column : reader.columns()) text += column + "|";
  while (reader.next()) {
    text += "\n" + std::to_string(reader.line()) + ": ";
    for (int c = 0; c < std::ssize(reader.columns()); ++c)
      text += std::string(reader.cell(c)) + "|";
  }
  return text + "\n" + reader.hash();
}

template <class Make>
std::string account_or_error(const Make& make) {
  try {
    return make();
  } catch (const Error& e) {
    return e.what();
  }
}

std::string of_pieces(const std::filesystem::path& file, std::size_t piece_bytes) {
  return account_or_error([&] {
    CsvReader reader(file, piece_bytes);
    return account_of(reader);
  });
}

std::string of_text(const std::string& text, const std::filesystem::path& name) {
  return account_or_error([&] {
    CsvReader reader(text, name.string());
    return account_of(reader);
  });
}

TEST(CsvReader, PiecesOfAnySizeGiveTheSameRows) {
  const testing::TempFolder folder;
  const std::string text =
      "\xEF\xBB\xBF,id,name\r\n0,a,\"x, \"\"y\"\"\r\n\r\nz\"\r\n\r\n\n1,b,5\" "
      "disc\n2,\"\",\"\"\"\"\n"
      "3,d,\"last\"";
  const std::string want =
      "|id|name|\n2: 0|a|x, \"y\"\r\n\r\nz|\n7: 1|b|5\" disc|\n8: 2||\"|\n9: 3|d|last|\n" +
      hash_hex(XXH3_64bits(text.data(), text.size()));
  EXPECT_EQ(of_text(text, "t.csv"), want);
  testing::write_bytes(folder / "t.csv", text);
  for (std::size_t piece = 1; piece <= text.size() + 1; ++piece) {
    EXPECT_EQ(of_pieces(folder / "t.csv", piece), want) << piece;
  }
}

TEST(CsvReader, PiecesGiveTheSameErrors) {
  const testing::TempFolder folder(testing::quick_parent());
  const auto text = rc::gen::container<std::string>(
      rc::gen::elementOf(std::string("\0,,,,\"\"\"\n\n\n\r\r\xEF\xBB\xBF"
                                     "abcd",
                                     20)));
  const bool same = rc::check([&] {
    const std::string bytes = *text;
    const auto piece = *rc::gen::inRange<std::size_t>(1, 9);
    testing::write_bytes(folder / "t.csv", bytes);
    RC_ASSERT(of_pieces(folder / "t.csv", piece) == of_text(bytes, folder / "t.csv"));
  });
  EXPECT_TRUE(same);
}

TEST(CsvReader, ErrorsNameLineAndColumnAfterManyPieces) {
  const testing::TempFolder folder;
  std::string text = "a,b\n";
  for (int i = 0; i < 1000; ++i) text += "1,\"x\ny\"\n";
  testing::write_bytes(folder / "t.csv", text + "1,\"never\n" + std::string(5000, 'x'));
  CsvReader reader(folder / "t.csv", 64);
  const auto read_all = [&] {
    while (reader.next()) {
    }
  };
  expect_error(ExitCode::kBadData, {"t.csv:2002", "column 2 (b)", "never closed"}, read_all);
}

TEST(CsvReader, FilesThatCannotBeRead) {
  const testing::TempFolder folder;
  expect_error(ExitCode::kInputMissing, {"none.csv"}, [&] { CsvReader(folder / "none.csv"); });
  expect_error(ExitCode::kIo, {folder.path().string()}, [&] { CsvReader(folder.path()); });
}

TEST(IdIndex, FindsWhatWasAddedAndNothingElse) {
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i) texts.push_back("id" + std::to_string(i % 3000));
  IdIndex index([&](std::size_t i) { return texts[i]; });
  std::set<std::string> seen;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool first = seen.insert(texts[i]).second;
    EXPECT_EQ(index.find(texts[i]), first ? index.kNone : i - 3000) << i;
    EXPECT_EQ(index.find_or_add(texts[i], i), first ? index.kNone : i - 3000) << i;
  }
  EXPECT_EQ(index.find("id3000"), index.kNone);
  EXPECT_EQ(index.find("id2999"), 2999u);
}

}  // namespace
}  // namespace onpa::data
