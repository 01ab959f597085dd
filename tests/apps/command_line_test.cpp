// The command line as scripts see it: exit codes, and one plain line on stderr.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/apps/run_command.h"

namespace onpa::testing {
namespace {

TEST(CommandLine, HelpAndVersion) {
  for (const char* flag : {"--help", "--version"}) {
    const CommandResult result = run_command({flag});
    EXPECT_EQ(result.code, 0);
    EXPECT_NE(result.out.find("onpa"), std::string::npos);
    EXPECT_EQ(result.err, "");
  }
  EXPECT_NE(run_command({"train", "--help"}).out.find("--resume"), std::string::npos);
}

TEST(CommandLine, UsageErrorsAre64AndSuggest) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "subcommand"},
      {{"trian"}, "did you mean 'train'?"},
      {{"frobnicate"}, "no verb 'frobnicate'"},
      {{"env", "--jsn"}, "did you mean '--json'?"},
      {{"train", "passt"}, "--data is required"},
      {{"train", "passt", "--data", "d", "--run", "r", "--rseume", "no"},
       "did you mean '--resume'?"},
      {{"train", "forest", "--data", "d", "--run", "r"}, "forest"},
      {{"train", "dense", "--data", "d", "--run", "r", "--resume", "maybe"}, "maybe"},
      {{"mel", "a.mp3"}, "--out is required"},
      {{"mel", "a.mp3", "--out", "x.npy", "--mels", "0"}, "--mels"},
  };
  for (const auto& [args, want] : cases) {
    const CommandResult result = run_command(args);
    EXPECT_EQ(result.code, 64) << want;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err.rfind("onpa: ", 0), 0u) << result.err;
    EXPECT_NE(result.err.find(want), std::string::npos) << result.err;
  }
}

TEST(CommandLine, MissingInputsAre66) {
  const TempFolder folder;
  const std::string out = (folder / "x.npy").string(), none = (folder / "none").string();
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"mel", none, "--out", out},
           {"predict", "--model", none, none},
           {"embed", "--model", none, none, "--out", out},
           {"eval", "--run", none},
           {"inspect", none},
           {"train", "dense", "--data", none, "--run", (folder / "run").string()},
           {"train", "dense", "--data", none, "--run", none, "--config", none}}) {
    const CommandResult result = run_command(args);
    EXPECT_EQ(result.code, 66) << args[0] << ": " << result.err;
    EXPECT_NE(result.err.find(none), std::string::npos) << result.err;
  }
}

TEST(CommandLine, ConfigErrorsAre78AndComeFirst) {
  const TempFolder folder;
  const CommandResult result =
      run_command({"train", "dense", "--data", (folder / "none").string(), "--run",
                   (folder / "run").string(), "--set", "train.epohcs=3"});
  EXPECT_EQ(result.code, 78);
  EXPECT_NE(result.err.find("did you mean 'train.epochs'?"), std::string::npos) << result.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(CommandLine, EnvironmentIsJson) {
  const CommandResult result = run_command({"env", "--json"});
  EXPECT_EQ(result.code, 0);
  const auto json = nlohmann::json::parse(result.out);
  for (const char* key : {"version", "commit", "cpu", "threads", "highway", "ffmpeg"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
}

TEST(CommandLine, InspectListsTheSettings) {
  const CommandResult result = run_command({"inspect", "settings"});
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.out.find("train.lr = 1e-05 (dense: 0.001) [0 to 10]\n    peak learning rate"),
            std::string::npos)
      << result.out;
}

TEST(CommandLine, InspectShowsAPreset) {
  const CommandResult result = run_command({"inspect", "passt-s"});
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.out.find("blocks.11.attn.qkv.weight"), std::string::npos);
  EXPECT_NE(result.out.find("parameters: 86153758"), std::string::npos);
}

}  // namespace
}  // namespace onpa::testing
