// Results that cannot be written, and outputs that are no place for a file.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "tests/apps/run_command.h"

namespace onpa::testing {
namespace {

// The exit code of the command under a shell that sends stdout to `where`.
int code_of(const std::string& args, const std::string& where, const std::filesystem::path& err) {
  const std::string line =
      std::string("'") + ONPA_COMMAND + "' " + args + " " + where + " 2> '" + err.string() + "'";
  return WEXITSTATUS(std::system(line.c_str()));
}

TEST(Output, FullOrClosedStdoutIs74) {
  const TempFolder folder;
  for (const char* args : {"env", "env --json", "inspect passt-xs", "--help", "--version"}) {
    for (const char* where : {">/dev/full", ">&-"}) {
      EXPECT_EQ(code_of(args, where, folder / "err"), 74) << args << " " << where;
      EXPECT_NE(read_bytes(folder / "err").find("onpa: "), std::string::npos) << args;
    }
  }
  EXPECT_EQ(code_of("env", ">/dev/null", folder / "err"), 0);
}

TEST(Output, AnErrorKeepsItsCodeWhenStdoutIsFull) {
  const TempFolder folder;
  EXPECT_EQ(code_of("inspect /nonexistent", ">/dev/full", folder / "err"), 66);
}

}  // namespace
}  // namespace onpa::testing
