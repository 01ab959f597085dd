#include "data/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "tensor/io/file.h"
#include "tests/data/support.h"

namespace onpa::data {
namespace {

using testing::expect_error;
using testing::read_bytes;
using testing::TempFolder;

int count_files(const TempFolder& folder) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    files += entry.exists();
  }
  return files;
}

TEST(File, ComesBackAsWritten) {
  const TempFolder folder;
  for (const std::size_t size : {0u, 1u, 4096u, 100003u}) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31);
    io::write_file_atomic(folder / "x", bytes);
    EXPECT_EQ(read_file(folder / "x"), bytes);
    io::write_file_atomic(folder / "x", bytes + "more", /*durable=*/false);
    EXPECT_EQ(read_file(folder / "x"), bytes + "more");
  }
  EXPECT_EQ(count_files(folder), 1);
}

TEST(File, ReadsFilesThatStateNoSize) {
  EXPECT_NE(read_file("/proc/self/status").find("Name:"), std::string::npos);
}

TEST(File, SaysWhyItCannotBeRead) {
  const TempFolder folder;
  expect_error(ExitCode::kInputMissing, {"none"}, [&] { read_file(folder / "none"); });
  expect_error(ExitCode::kIo, {folder.path().string()}, [&] { read_file(folder.path()); });
}

TEST(File, CannotBeCreatedWithoutItsFolder) {
  const TempFolder folder;
  expect_error(ExitCode::kCannotCreate, {"none/x"},
               [&] { io::write_file_atomic(folder / "none/x", "1"); });
}

// A limit on the size of files fails a write half way, as a full disk does.
TEST(File, AFailedWriteKeepsTheOldFile) {
  const TempFolder folder;
  io::write_file_atomic(folder / "x", "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ExitCode::kIo, {"cannot write " + (folder / "x").string()},
               [&] { io::write_file_atomic(folder / "x", std::string(5000, 'n')); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_bytes(folder / "x"), "old");
  EXPECT_EQ(count_files(folder), 1);
}

}  // namespace
}  // namespace onpa::data
