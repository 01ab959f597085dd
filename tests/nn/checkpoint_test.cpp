#include "nn/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "nn/manifest.h"
#include "tests/support/temp_folder.h"

namespace onpa::nn {
namespace {

namespace fs = std::filesystem;
using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

CheckpointContent make_content(std::int64_t step) {
  std::vector<float> weights(37);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(step) + 0.25f * static_cast<float>(i);
  }
  const Tensor weight = Tensor::from<float>({37}, weights);
  CheckpointContent content;
  content.step = step;
  content.tensors["model"] = {{"head.weight", weight}, {"head.bias", weight.slice(0, 5)}};
  content.tensors["optim"] = {{"m", weight}, {"v", weight}};
  content.metadata["model"] = {{"arch", "dense"}};
  content.text["state.json"] = "{\"epoch\": " + std::to_string(step) + "}\n";
  return content;
}

void expect_content(const CheckpointContent& got, std::int64_t step) {
  const CheckpointContent want = make_content(step);
  EXPECT_EQ(got.step, step);
  EXPECT_EQ(got.metadata, want.metadata);
  EXPECT_EQ(got.text, want.text);
  ASSERT_EQ(got.tensors.size(), want.tensors.size());
  for (const auto& [file, tensors] : want.tensors) {
    const io::NamedTensors& read = got.tensors.at(file);
    ASSERT_EQ(read.size(), tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ(read[i].first, tensors[i].first);
      EXPECT_EQ(read[i].second.to_vector<float>(), tensors[i].second.to_vector<float>());
    }
  }
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}
using Names = std::vector<std::string>;

std::int64_t found_step(const fs::path& checkpoints) {
  std::vector<std::string> skipped;
  const auto found = find_checkpoint(checkpoints, skipped);
  return found ? found->content.step : -1;
}

TEST(Checkpoint, SavesAndLoads) {
  const TempFolder folder;
  const fs::path checkpoints = folder / "run/checkpoints";
  EXPECT_EQ(save_checkpoint(checkpoints, make_content(1200), 3), checkpoints / "step_00001200");
  expect_content(load_checkpoint(checkpoints / "step_00001200"), 1200);
  expect_content(load_checkpoint(checkpoints / "last"), 1200);
  EXPECT_EQ(fs::read_symlink(checkpoints / "last"), "step_00001200");
  EXPECT_EQ(names_in(checkpoints), (Names{"last", "step_00001200"}));
  EXPECT_EQ(names_in(checkpoints / "last"),
            (Names{"MANIFEST.json", "model.safetensors", "optim.safetensors", "state.json"}));
}

TEST(Checkpoint, SavingAStepAgainReplacesIt) {
  const TempFolder folder;
  CheckpointContent content = make_content(7);
  content.text["extra.txt"] = "gone after the second save";
  save_checkpoint(folder.path(), content, 1);
  save_checkpoint(folder.path(), make_content(7), 1);
  expect_content(load_checkpoint(folder / "step_00000007"), 7);
  EXPECT_EQ(names_in(folder.path()), (Names{"last", "step_00000007"}));
}

TEST(Checkpoint, KeepsTheNewestAndTheBest) {
  const TempFolder folder;
  for (std::int64_t step = 10; step <= 60; step += 10) {
    save_checkpoint(folder.path(), make_content(step), 2);
    if (step == 20) mark_best(folder.path(), step);
  }
  EXPECT_EQ(names_in(folder.path()),
            (Names{"best", "last", "step_00000020", "step_00000050", "step_00000060"}));
  EXPECT_EQ(fs::read_symlink(folder / "best"), "step_00000020");
  mark_best(folder.path(), 60);
  save_checkpoint(folder.path(), make_content(70), 2);
  EXPECT_EQ(names_in(folder.path()), (Names{"best", "last", "step_00000060", "step_00000070"}));
  EXPECT_THROW(mark_best(folder.path(), 20), Error);
}

TEST(Checkpoint, LinksThatAKillHasLeftBehindAreRestored) {
  const TempFolder folder;
  for (const std::int64_t step : {10, 20, 30})
    save_checkpoint(folder.path(), make_content(step), 9);
  mark_best(folder.path(), 10);
  fs::remove(folder / "last");
  fs::create_symlink("step_00000020", folder / "last");
  fs::create_symlink("step_00000030", folder / ".tmp-last-1-1");
  restore_links(folder.path(), 30, 20);
  EXPECT_FALSE(fs::is_symlink(folder / ".tmp-last-1-1"));
  EXPECT_EQ(fs::read_symlink(folder / "last"), "step_00000030");
  EXPECT_EQ(fs::read_symlink(folder / "best"), "step_00000020");
  restore_links(folder.path(), 30, 25);  // of which there is no checkpoint
  EXPECT_EQ(fs::read_symlink(folder / "best"), "step_00000020");
}

// After a resume from an older checkpoint, a damaged later one must not push out what is good.
TEST(Checkpoint, LaterStepsDoNotCount) {
  const TempFolder folder;
  save_checkpoint(folder.path(), make_content(300), 1);
  write_bytes(folder / "step_00000300/state.json", "damaged");
  save_checkpoint(folder.path(), make_content(250), 1);
  EXPECT_EQ(found_step(folder.path()), 250);
}

TEST(Checkpoint, RefusesWhatMustNotBeSaved) {
  const TempFolder folder;
  save_checkpoint(folder.path(), make_content(1), 1);
  CheckpointContent content = make_content(2);
  content.tensors["optim"][1].second = Tensor::full({3}, NAN);
  try {
    save_checkpoint(folder.path(), content, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDiverged);
    EXPECT_STREQ(error.what(),
                 "checkpoint of step 2 not saved: optim.safetensors: v holds NaN or infinity");
  }
  content = make_content(2);
  content.text["../state.json"] = "outside";
  EXPECT_THROW(save_checkpoint(folder.path(), content, 1), Error);
  content = make_content(2);
  content.text["MANIFEST.json"] = "in the way";
  EXPECT_THROW(save_checkpoint(folder.path(), content, 1), Error);
  EXPECT_THROW(save_checkpoint(folder.path(), make_content(2), 0), Error);
  EXPECT_EQ(names_in(folder.path()), (Names{"last", "step_00000001"}));
}

TEST(Checkpoint, CannotCreate) {
  const TempFolder folder;
  write_bytes(folder / "file", "");
  for (const fs::path& bad : {folder / "file", folder / "file/checkpoints"}) {
    try {
      save_checkpoint(bad, make_content(1), 1);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCannotCreate) << error.what();
    }
  }
}

TEST(Checkpoint, FindSkipsWhatIsNotWhole) {
  const TempFolder folder;
  EXPECT_EQ(found_step(folder / "none"), -1);
  for (std::int64_t step = 1; step <= 6; ++step) {
    save_checkpoint(folder.path(), make_content(step), 9);
  }
  const auto file = [&](int step, const char* name) {
    return folder / ("step_0000000" + std::to_string(step) + "/" + name);
  };
  fs::remove(file(6, "MANIFEST.json"));
  fs::remove(file(5, "optim.safetensors"));
  write_bytes(file(4, "state.json"), "");
  // A checkpoint that another program wrote: whole, but with infinity in it.
  io::write_safetensors(file(3, "model.safetensors"), {{"w", Tensor::full({2}, INFINITY)}});
  Manifest manifest = parse_manifest(read_bytes(file(3, "MANIFEST.json")));
  manifest.files["model.safetensors"] = measure_file(file(3, "model.safetensors"));
  write_bytes(file(3, "MANIFEST.json"), format_manifest(manifest));
  fs::create_directory(folder / ".tmp-step_00000009");
  fs::create_directory(folder / "step_9");
  write_bytes(folder / "step_00000008", "a file");

  std::vector<std::string> skipped;
  const auto found = find_checkpoint(folder.path(), skipped);
  ASSERT_TRUE(found);
  expect_content(found->content, 2);
  EXPECT_EQ(found->folder, folder / "step_00000002");
  const std::string base = folder.path().string();
  EXPECT_EQ(skipped,
            (Names{base + "/step_00000006: " + base + "/step_00000006/MANIFEST.json: missing",
                   base + "/step_00000005/optim.safetensors: missing",
                   base + "/step_00000004/state.json: 0 bytes, want 13",
                   base + "/step_00000003: model.safetensors: w holds NaN or infinity"}));
}

TEST(Checkpoint, EveryFlippedBitIsDetected) {
  const TempFolder folder(testing::quick_parent());
  const fs::path saved = save_checkpoint(folder.path(), make_content(5), 1);
  for (const std::string& name : names_in(saved)) {
    const std::string whole = read_bytes(saved / name);
    // The manifest in full, the others at every 7th byte; one bit each, all eight in turn.
    const std::size_t stride = name == kManifestName ? 1 : 7;
    for (std::size_t at = 0; at < whole.size(); at += stride) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at / stride % 8)));
      write_bytes(saved / name, flipped);
      EXPECT_THROW(load_checkpoint(saved), Error) << name << " byte " << at;
    }
    write_bytes(saved / name, whole);
  }
  expect_content(load_checkpoint(saved), 5);
}

TEST(Checkpoint, ManifestNamesStayInTheFolder) {
  Manifest manifest{.step = 1, .files = {{"../secret", {1, "00"}}}};
  try {
    parse_manifest(format_manifest(manifest));
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "MANIFEST.json: a file name that is not plain");
  }
}

// Runs `body` in a child with ONPA_FAULT set; returns how the child ended, as waitpid() says. The
// pool's threads do not survive a fork, so the child must not need them: these tensors are small.
template <class Body>
int run_with_fault(const std::string& fault, const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("ONPA_FAULT", fault.c_str(), 1);
    ::_exit(body());
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

constexpr int kSaved = 0, kFailed = 1;

int save_status(const fs::path& checkpoints, std::int64_t step, int keep) {
  try {
    save_checkpoint(checkpoints, make_content(step), keep);
    return kSaved;
  } catch (const Error& error) {
    return error.code() == ExitCode::kIo || error.code() == ExitCode::kCannotCreate ? kFailed : 2;
  }
}

bool has_leftovers(const fs::path& folder) {
  for (const std::string& name : names_in(folder)) {
    if (name.starts_with(".tmp-")) return true;
  }
  return false;
}

// Saves step `next` over a folder that holds 10 and 20, failing at each operation in turn until one
// save passes untouched. Returns the number of operations.
template <class Check>
int fail_at_every_operation(const char* action, std::int64_t next, int keep, const Check& check) {
  for (int operation = 1; operation < 1000; ++operation) {
    const TempFolder folder(testing::quick_parent());
    save_checkpoint(folder.path(), make_content(10), 3);
    save_checkpoint(folder.path(), make_content(20), 3);
    mark_best(folder.path(), 10);
    const std::string fault = "checkpoint:" + std::to_string(operation) + ":" + action;
    const int status =
        run_with_fault(fault, [&] { return save_status(folder.path(), next, keep); });
    if (WIFEXITED(status) && WEXITSTATUS(status) == kSaved) {
      EXPECT_EQ(found_step(folder.path()), next);
      return operation - 1;
    }
    check(folder.path(), status, operation);
    // Whatever happened, the next save works and clears the rest away.
    EXPECT_EQ(save_status(folder.path(), next + 10, keep), kSaved) << operation;
    EXPECT_EQ(found_step(folder.path()), next + 10) << operation;
    EXPECT_FALSE(has_leftovers(folder.path())) << operation;
  }
  return 0;
}

TEST(CheckpointFaults, KilledAtEveryOperation) {
  for (const std::int64_t next : {30, 20}) {  // a later step, and one that is there already
    const int operations = fail_at_every_operation(
        "kill", next, 1, [&](const fs::path& folder, int status, int operation) {
          EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << operation;
          const std::int64_t found = found_step(folder);
          EXPECT_TRUE(found == 20 || found == next) << found << " after " << operation;
          const std::int64_t last = load_checkpoint(folder / "last").step;
          EXPECT_TRUE(last == 20 || last == next) << last << " after " << operation;
          expect_content(load_checkpoint(folder / "best"), 10);
        });
    RecordProperty("operations_of_step_" + std::to_string(next), operations);
    // At least create, write, sync, close for each of four files, and the steps around them.
    EXPECT_GE(operations, 4 * 4 + 8);
  }
}

TEST(CheckpointFaults, DiskFullAtEveryOperation) {
  for (const char* action : {"enospc", "eio"}) {
    const int operations = fail_at_every_operation(
        action, 30, 3, [&](const fs::path& folder, int status, int operation) {
          EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kFailed) << operation;
          EXPECT_FALSE(has_leftovers(folder)) << operation;
          expect_content(load_checkpoint(folder / "step_00000010"), 10);
          expect_content(load_checkpoint(folder / "step_00000020"), 20);
          EXPECT_GE(found_step(folder), 20) << operation;
        });
    EXPECT_GE(operations, 4 * 4 + 8);
  }
}

TEST(CheckpointFaults, TheCauseIsNamed) {
  const TempFolder folder;
  const int status = run_with_fault("checkpoint:4:enospc", [&] {
    try {
      save_checkpoint(folder.path(), make_content(1), 1);
    } catch (const Error& error) {
      const std::string message = error.what();
      return message.ends_with("model.safetensors: No space left on device") ? 0 : 1;
    }
    return 2;
  });
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(CheckpointFaults, ATypoInTheFaultIsAnError) {
  for (const char* fault : {"checkpoint:x:kill", "checkpoint:1:explode", "checkpoint:0:kill",
                            "checkpoint::kill", "disk:1:kill", "checkpoint:1", "checkpoint:"}) {
    const TempFolder folder;
    const int status = run_with_fault(fault, [&] {
      try {
        save_checkpoint(folder.path(), make_content(1), 1);
      } catch (const Error& error) {
        return error.code() == ExitCode::kConfig ? 0 : 1;
      }
      return 2;
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << fault;
  }
}

}  // namespace
}  // namespace onpa::nn
