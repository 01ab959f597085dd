// predict and embed on clips of any length, from files, lists and standard input.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tensor/io/npy.h"
#include "tests/apps/clips_support.h"

namespace onpa::testing {
namespace {

TEST_F(Clips, NamesTheHighestClasses) {
  const CommandResult text = run({"predict", path("a/long.wav"), "--top", "3"});
  ASSERT_EQ(text.code, 0) << text.err;
  const CommandResult json = run({"predict", path("a/long.wav"), "--json"});
  ASSERT_EQ(json.code, 0) << json.err;
  const auto line = nlohmann::json::parse(json.out);
  EXPECT_EQ(line.at("windows"), 5);
  EXPECT_NEAR(line.at("seconds"), 33000.0 / 32000, 1e-9);
  ASSERT_EQ(line.at("top").size(), 5u);
  const auto logits = line.at("logits").get<std::vector<double>>();
  const auto& best = line.at("top").at(0);
  const auto index = std::max_element(logits.begin(), logits.end()) - logits.begin();
  EXPECT_EQ(best.at("class"), index);
  EXPECT_EQ(text.out.find(path("a/long.wav") + "\t" + best.at("name").get<std::string>()), 0u)
      << text.out;
  EXPECT_EQ(std::count(text.out.begin(), text.out.end(), ';'), 2) << text.out;

  write_bytes(folder_ / "two.txt", std::string_view("one\ntwo\n"));
  const CommandResult wrong = run({"predict", path("a/long.wav"), "--classes", path("two.txt")});
  EXPECT_EQ(wrong.code, 64) << wrong.err;
  EXPECT_NE(wrong.err.find("2 class names, the model has 527 outputs"), std::string::npos);
}

TEST_F(Clips, CsvHasAColumnForEachOutputOrARowForEachClass) {
  const CommandResult wide = run({"predict", path("a"), "--csv", "--npy", path("p.npy")});
  ASSERT_EQ(wide.code, 0) << wide.err;
  EXPECT_EQ(wide.out.find("input,seconds,Speech,\"Male speech, man speaking\","), 0u)
      << wide.out.substr(0, 100);
  EXPECT_EQ(std::count(wide.out.begin(), wide.out.end(), '\n'), 3);
  EXPECT_EQ(io::read_npy(path("p.npy")).shape(), Shape({2, 527}));
  const CommandResult ranked = run({"predict", path("a"), "--csv", "--top", "2"});
  EXPECT_EQ(ranked.out.find("input,seconds,rank,class,name,logit,probability\n"), 0u);
  EXPECT_EQ(std::count(ranked.out.begin(), ranked.out.end(), '\n'), 5) << ranked.out;
}

TEST_F(Clips, ListsStandardInputAndFilesSayTheSame) {
  const std::string clip = path("a/long.wav");
  const CommandResult file = run({"predict", clip, "--json"});
  ASSERT_EQ(file.code, 0) << file.err;
  const CommandResult pipe = piped(clip, {"predict", "-", "--json"});
  ASSERT_EQ(pipe.code, 0) << pipe.err;
  auto want = nlohmann::json::parse(file.out), got = nlohmann::json::parse(pipe.out);
  EXPECT_EQ(got.at("input"), "-");
  EXPECT_EQ(got.at("logits"), want.at("logits"));

  write_bytes(folder_ / "list.txt", std::string_view(clip + "\r\n\n" + path("a") + "\n"));
  const CommandResult listed = run({"predict", "--list", path("list.txt"), "--json"});
  ASSERT_EQ(listed.code, 0) << listed.err;
  EXPECT_EQ(std::count(listed.out.begin(), listed.out.end(), '\n'), 3);
  EXPECT_EQ(run({"predict", "@" + path("list.txt"), "--json"}).out, listed.out);
  EXPECT_EQ(piped(path("list.txt"), {"predict", "--list", "-", "--json"}).out, listed.out);

  write_bytes(folder_ / "bad.txt", std::string_view(clip + "\nnone.wav\n"));
  const CommandResult bad = run({"predict", "--list", path("bad.txt")});
  EXPECT_EQ(bad.code, 66);
  EXPECT_NE(bad.err.find("bad.txt:2: none.wav"), std::string::npos) << bad.err;
  EXPECT_EQ(run({"predict", "-", "-"}).code, 64);
  EXPECT_EQ(run({"predict"}).code, 64);
}

TEST_F(Clips, EmbedWritesScenesAndTimestamps) {
  const CommandResult scenes = run({"embed", path("a"), "--out", path("s.npy"), "--mode", "all"});
  ASSERT_EQ(scenes.code, 0) << scenes.err;
  EXPECT_EQ(io::read_npy(path("s.npy")).shape(), Shape({2, 527 + 64}));

  const CommandResult stamps =
      run({"embed", path("a/short.wav"), "--out", path("t.npy"), "--timestamps"});
  ASSERT_EQ(stamps.code, 0) << stamps.err;
  EXPECT_EQ(io::read_npy(path("t.npy")).shape(), Shape({11, 64}));
  const std::string csv = read_bytes(path("t.csv"));
  EXPECT_EQ(csv.find("input,ms\n"), 0u);
  EXPECT_NE(csv.find("short.wav,500\n"), std::string::npos) << csv;
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 12);

  const CommandResult coarse = run({"embed", path("a/short.wav"), "--out", path("c.npy"),
                                    "--timestamps", "--every", "0.25", "--layout", "base2level"});
  ASSERT_EQ(coarse.code, 0) << coarse.err;
  EXPECT_EQ(io::read_npy(path("c.npy")).shape(), Shape({3, 128}));
}

TEST_F(Clips, UnderOnePatchIsPadded) {
  write_wav(path("a/tiny.wav"), 300);
  const CommandResult tiny = run({"predict", path("a/tiny.wav"), "--json"});
  ASSERT_EQ(tiny.code, 0) << tiny.err;
  EXPECT_NE(tiny.err.find("padded with silence"), std::string::npos) << tiny.err;
  EXPECT_EQ(run({"embed", path("a/tiny.wav"), "--out", path("t.npy"), "--timestamps"}).code, 0);
}

TEST_F(Clips, ALimitAndDamageRefuseTheFileAndLeaveNoOutput) {
  const CommandResult limited =
      run({"embed", path("a/long.wav"), "--out", path("x.npy"), "--max-seconds", "1"});
  EXPECT_EQ(limited.code, 65) << limited.err;
  EXPECT_NE(limited.err.find("longer than the limit of 1 s"), std::string::npos) << limited.err;
  std::string cut = read_bytes(path("a/long.wav"));
  cut.resize(cut.size() - 3000);
  write_bytes(folder_ / "cut.wav", std::string_view(cut));
  EXPECT_EQ(run({"embed", path("cut.wav"), "--out", path("x.npy"), "--timestamps"}).code, 65);
  EXPECT_FALSE(std::filesystem::exists(path("x.npy")));
  EXPECT_FALSE(std::filesystem::exists(path("x.csv")));
  EXPECT_EQ(run({"predict", path("a/long.wav"), "--window", "3"}).code, 64);
}

}  // namespace
}  // namespace onpa::testing
