// What may not be read among inputs.
#include "apps/support/inputs.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "kernels/error.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;
using testing::TempFolder;
using testing::write_bytes;

// Folders and files are closed to nobody who is root.
class AsNobody {
 public:
  AsNobody() : was_root_(::geteuid() == 0 && ::seteuid(65534) == 0) {}
  ~AsNobody() {
    if (was_root_ && ::seteuid(0) != 0) ADD_FAILURE();
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  bool was_root_;
};

std::string refusal(const std::string& input, const std::string& list, ExitCode code) {
  try {
    const AsNobody nobody;
    expand_inputs(input.empty() ? std::vector<std::string>() : std::vector{input}, list);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "taken";
}

TEST(Inputs, WhatMayNotBeReadIsSaid) {
  const TempFolder folder;
  fs::permissions(folder.path(), fs::perms::all);
  for (const char* name : {"open/a.wav", "open/closed/b.wav", "closed/c.wav"}) {
    write_bytes(folder / name, "x");
  }
  write_bytes(folder / "list", (folder / "open/a.wav").string() + "\n");
  for (const char* name : {"open/closed", "closed", "list"}) {
    fs::permissions(folder / name, fs::perms::none);
  }
  const auto path = [&](const char* name) { return (folder / name).string(); };
  for (const char* name : {"closed", "closed/c.wav"}) {
    EXPECT_EQ(refusal(path(name), "", ExitCode::kIo),
              path(name) + ": cannot open: Permission denied");
  }
  EXPECT_EQ(refusal("", path("list"), ExitCode::kIo),
            path("list") + ": cannot open: Permission denied");
  EXPECT_EQ(refusal("", path("none"), ExitCode::kInputMissing), path("none") + ": no such list");
  EXPECT_EQ(refusal("", path("open"), ExitCode::kIo),
            path("open") + ": cannot read: Is a directory");
  {
    const AsNobody nobody;
    ::testing::internal::CaptureStdout();
    EXPECT_EQ(expand_inputs({path("open")}), std::vector<std::string>{path("open/a.wav")});
  }
  EXPECT_NE(::testing::internal::GetCapturedStdout().find(path("open/closed") +
                                                          ": cannot open: Permission denied"),
            std::string::npos);
  fs::permissions(folder / "open/closed", fs::perms::all);
  fs::permissions(folder / "closed", fs::perms::all);
}

}  // namespace
}  // namespace onpa::apps
