#include "tensor/io/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

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

TEST(WriteFileAtomic, ReplacesFilesAndWhatLinksLeadTo) {
  const TempFolder folder;
  write_bytes(folder / "file", "old");
  write_bytes(folder / "real/target", "old");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  std::filesystem::create_symlink("real/target", folder / "link");
  std::filesystem::create_symlink(folder / "link", folder / "link2");
  for (const char* name : {"file", "dangling", "link", "new"}) {
    EXPECT_EQ(refusal(folder / name), "written") << name;
    EXPECT_EQ(read_bytes(folder / name), "text") << name;
  }
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "dangling"));
  EXPECT_EQ(read_bytes(folder / "nowhere"), "text");
  write_bytes(folder / "real/target", "old");
  EXPECT_EQ(refusal(folder / "link2"), "written");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link2"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_bytes(folder / "real/target"), "text");
}

// Links to what a process has open look like links to files.
TEST(WriteFileAtomic, RefusesLinksOfTheSystem) {
  const TempFolder folder;
  const int open_file = ::open((folder / "open").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(open_file, 0);
  const std::string system = "/proc/self/fd/" + std::to_string(open_file);
  std::filesystem::create_symlink(system, folder / "link");
  std::filesystem::create_symlink("loop", folder / "loop");
  const std::string name = (folder / "link").string();
  EXPECT_EQ(refusal(name),
            "cannot create " + name + ": it leads to " + system + ", a link of the system");
  EXPECT_EQ(refusal(system), "cannot create " + system + ": it is a link of the system");
  EXPECT_EQ(refusal(folder / "loop"),
            "cannot create " + (folder / "loop").string() + ": too many links");
  EXPECT_THROW(require_room(name, 1), Error);
  ::close(open_file);
  EXPECT_TRUE(std::filesystem::is_symlink(name));
  EXPECT_EQ(read_bytes(folder / "open"), "");
}

TEST(StagedFile, GoesWhenASignalEndsTheProcess) {
  const TempFolder folder;
  const auto end_amid_writing = [&] {
    const StagedFile staged(folder / "staged", "text");
    StagedFile done(folder / "done", "text");
    done.commit();
    FileWriter open_file(folder / "open");
    remove_unfinished_files();
    ::_exit(7);
  };
  EXPECT_EXIT(end_amid_writing(), ::testing::ExitedWithCode(7), "");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  EXPECT_EQ(read_bytes(folder / "done"), "text");
}

TEST(WriteFileAtomic, NamesTheFolderThatIsNotThere) {
  EXPECT_EQ(refusal("/nonexistent/x"), "cannot create /nonexistent/x: No such file or directory");
}

}  // namespace
}  // namespace onpa::io
