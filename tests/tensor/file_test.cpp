#include "tensor/io/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "kernels/error.h"
#include "tests/support/temp_folder.h"

namespace onpa::io {
namespace {

using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

std::string refusal(const std::filesystem::path& path) {
  try {
    write_file_atomic(path, [](FileWriter& writer) { writer.write("text"); });
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCannotCreate) << error.what();
    return error.what();
  }
  return "written";
}

// A rename onto a device node would remove it.
TEST(WriteFileAtomic, RefusesWhatIsNoRegularFile) {
  const TempFolder folder;
  const std::filesystem::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::filesystem::create_directory(folder / "sub");
  std::filesystem::create_symlink("pipe", folder / "link");
  for (const char* name : {"pipe", "sub", "link"}) {
    EXPECT_EQ(refusal(folder / name),
              "cannot create " + (folder / name).string() + ": it is not a regular file");
  }
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
}

TEST(WriteFileAtomic, ReplacesFilesAndDanglingLinks) {
  const TempFolder folder;
  write_bytes(folder / "file", "old");
  std::filesystem::create_symlink("nowhere", folder / "link");
  for (const char* name : {"file", "link", "new"}) {
    EXPECT_EQ(refusal(folder / name), "written") << name;
    EXPECT_EQ(read_bytes(folder / name), "text") << name;
  }
}

TEST(WriteFileAtomic, NamesTheFolderThatIsNotThere) {
  EXPECT_EQ(refusal("/nonexistent/x"), "cannot create /nonexistent/x: No such file or directory");
}

}  // namespace
}  // namespace onpa::io
