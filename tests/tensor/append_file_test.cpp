#include "tensor/io/append_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "kernels/error.h"
#include "tensor/io/file.h"
#include "tests/support/temp_folder.h"

namespace onpa::io {
namespace {

using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

// Runs `body` in a child with ONPA_FAULT set; returns its exit code.
template <class Body>
int exit_of(const std::string& fault, const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("ONPA_FAULT", fault.c_str(), 1);
    ::_exit(body());
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(AppendFile, AppendsToWhatIsThere) {
  const TempFolder folder;
  write_bytes(folder / "x", std::string_view("old\n"));
  AppendFile file(folder / "x", FileKind::kMetrics);
  file.append("one\n");
  EXPECT_EQ(read_bytes(folder / "x"), "old\none\n");  // at once
  file.append("");
  file.append("two\n");
  file.close();
  EXPECT_EQ(file.problem(), "");
  EXPECT_EQ(read_bytes(folder / "x"), "old\none\ntwo\n");
}

TEST(AppendFile, CannotBeCreated) {
  try {
    AppendFile("/nonexistent/x", FileKind::kMetrics);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
    EXPECT_STREQ(error.what(), "cannot create /nonexistent/x: No such file or directory");
  }
}

// A limit on the size of files ends a write in the middle of a record, as a full disk does.
TEST(AppendFile, ARecordThatDoesNotFitIsCutOffAndTriedAgain) {
  const TempFolder folder;
  AppendFile file(folder / "x", FileKind::kMetrics);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{25, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  for (const char* record : {"0123456789", "abcdefghij", "ABCDEFGHIJ", "x"}) file.append(record);
  EXPECT_EQ(read_bytes(folder / "x"), "0123456789abcdefghij");
  EXPECT_EQ(file.waiting().size(), 2u);  // in order: the short one must not overtake
  EXPECT_EQ(file.problem(), "cannot write " + (folder / "x").string() + ": File too large");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  file.flush();
  EXPECT_EQ(read_bytes(folder / "x"), "0123456789abcdefghijABCDEFGHIJx");
  EXPECT_EQ(file.problem(), "");
}

TEST(AppendFile, WhatCouldNotBeSyncedIsWrittenAgain) {
  const TempFolder folder;
  // Operations: open, write, sync, write, write, sync.
  EXPECT_EQ(exit_of("metrics:6:enospc",
                    [&] {
                      AppendFile file(folder / "x", FileKind::kMetrics);
                      file.append("a");
                      file.sync();
                      file.append("b");
                      file.append("c");
                      file.sync();
                      if (read_bytes(folder / "x") != "a" || file.waiting().size() != 2) return 1;
                      if (!file.problem().ends_with("/x: No space left on device")) return 2;
                      file.append("d");
                      return file.problem().empty() ? 0 : 3;
                    }),
            0);
  EXPECT_EQ(read_bytes(folder / "x"), "abcd");
}

TEST(Faults, OnlyTheKindThatIsNamedCounts) {
  const TempFolder folder;
  const auto write_two = [&] {
    AppendFile events(folder / "events", FileKind::kEvents);
    AppendFile metrics(folder / "metrics", FileKind::kMetrics);
    for (AppendFile* file : {&events, &metrics, &events, &metrics}) file->append("x");
    return (events.problem().empty() ? 0 : 1) + (metrics.problem().empty() ? 0 : 2);
  };
  EXPECT_EQ(exit_of("events:3:enospc", write_two), 1);
  EXPECT_EQ(exit_of("metrics:2+:eio", write_two), 2);
  EXPECT_EQ(exit_of("metrics:2:eio", write_two), 0);  // the next append made up for it
  EXPECT_EQ(exit_of("metrics:3:kill", write_two), 128 + SIGKILL);
  EXPECT_EQ(exit_of("cache:1+:enospc", write_two), 0);
}

TEST(Faults, TheInnermostScopeCounts) {
  EXPECT_EQ(exit_of("npy:1+:enospc",
                    [] {
                      const FaultScope outer(FileKind::kNpy);
                      if (fault_point()) return 1;
                      {
                        const FaultScope inner(FileKind::kRun);
                        if (!fault_point()) return 2;
                      }
                      return fault_point() ? 3 : 0;
                    }),
            0);
}

TEST(Faults, ATypoIsAnError) {
  for (const char* fault :
       {"metrics:x:kill", "metrics:1:explode", "metrics:0:kill", "metrics::kill", "disk:1:kill",
        "metrics:1", "metrics:", "metrics:+:kill", "metrics:1++:kill", "metrics:1:kill:"}) {
    EXPECT_EQ(exit_of(fault,
                      [] {
                        try {
                          const FaultScope scope(FileKind::kMetrics);
                        } catch (const Error& error) {
                          return static_cast<int>(error.code());
                        }
                        return 0;
                      }),
              78)
        << fault;
  }
}

TEST(StagedFile, TakesItsPlaceOnlyWhenToldTo) {
  const TempFolder folder;
  write_bytes(folder / "x", std::string_view("old"));
  {
    const StagedFile dropped(folder / "x", "new");
    EXPECT_EQ(read_bytes(folder / "x"), "old");
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  StagedFile first(folder / "x", "new");
  StagedFile kept(std::move(first));
  kept.commit();
  EXPECT_EQ(read_bytes(folder / "x"), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(RequireRoom, LeavesNothingBehind) {
  const TempFolder folder;
  require_room(folder / "x", 100000);
  require_room(folder / "x", 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THROW(require_room(folder / "none/x", 1), Error);
  EXPECT_THROW(require_room(folder.path(), 1), Error);
}

}  // namespace
}  // namespace onpa::io
