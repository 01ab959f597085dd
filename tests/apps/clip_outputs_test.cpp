// What predict, embed and explain write, where, and what they say before the work instead.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "apps/inference/model_card.h"
#include "tensor/io/npy.h"
#include "tests/apps/clips_support.h"
#include "tests/apps/disk_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

class ClipOutputs : public Clips {
 protected:
  std::string short_clip() const { return path("a/short.wav"); }
  // The model as one of a target.
  std::string regressor() {
    auto file = io::read_safetensors(model_);
    apps::ModelCard card = apps::ModelCard::read(file, model_);
    card.target_mean = -0.1;
    card.target_std = 0.2;
    io::NamedTensors tensors(file.tensors.begin(), file.tensors.end());
    io::write_safetensors(path("target.safetensors"), tensors, card.metadata());
    return path("target.safetensors");
  }
  CommandResult shell(const std::string& line) {
    return Command("/bin/sh", {"-c", line}, {}).wait();
  }
  // The command line of a verb with this model.
  std::string line(const std::string& verb, const std::string& more) {
    return "'" ONPA_COMMAND "' " + verb + " --model '" + model_ + "' " + more;
  }
};

void expect_usage(const CommandResult& result, const std::string& part) {
  EXPECT_EQ(result.code, 64) << result.err;
  EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

TEST_F(ClipOutputs, TwoOfOneNameAreRefused) {
  expect_usage(run({"embed", short_clip(), "--timestamps", "--out", path("x.csv")}),
               "--out and the times beside it name the same file");
  EXPECT_FALSE(fs::exists(path("x.csv")));
  fs::create_symlink("link.npy", path("link.csv"));
  expect_usage(run({"embed", short_clip(), "--timestamps", "--out", path("link.npy")}),
               "same file");
  fs::create_symlink(path("a"), path("b"));
  fs::create_symlink("nowhere.png", path("c.png"));
  for (const auto& [out, other] :
       std::vector<std::pair<std::string, std::string>>{{"x.png", "x.png"},
                                                        {"x.png", "a/../x.png"},
                                                        {"a/x.png", "b/x.png"},
                                                        {"c.png", "nowhere.png"}}) {
    for (const std::string option : {"--json", "--npy"}) {
      expect_usage(run({"explain", short_clip(), "--out", path(out), option, path(other)}),
                   "--out and " + option + " name the same file");
      EXPECT_FALSE(fs::exists(path(other)));
    }
  }
  expect_usage(run({"explain", short_clip(), "--out", path("x.png"), "--json", path("y"), "--npy",
                    path("y")}),
               "--json and --npy name the same file");
}

TEST_F(ClipOutputs, InputsAreNotReplaced) {
  fs::copy_file(short_clip(), path("clip.png"));
  fs::copy_file(model_, path("some.safetensors"));
  fs::create_symlink("clip.png", path("link.png"));
  const std::string clip = path("clip.png"), link = path("link.png");
  write_bytes(path("tracks.csv"), "id,genre,popularity,energy,loudness\na,edm,3,0.5,-7\n");
  for (const std::vector<std::string>& line : std::vector<std::vector<std::string>>{
           {"mel", clip, "--out", clip},
           {"mel", clip, "--out", link},
           {"embed", "--model", model_, short_clip(), clip, "--out", link},
           {"predict", "--model", model_, clip, "--npy", clip},
           {"explain", "--model", model_, clip, "--out", link},
           {"explain", "--model", model_, clip, "--out", path("x.png"), "--json", clip},
           {"convert", path("some.safetensors"), path("some.safetensors")},
           {"prepare", "--csv", path("tracks.csv"), "--out", path(""), "--features",
            "energy,loudness"}}) {
    expect_usage(run_command(line), "is the input ");
  }
  EXPECT_EQ(read_bytes(clip), read_bytes(short_clip()));
  EXPECT_EQ(read_bytes(path("some.safetensors")), read_bytes(model_));
  EXPECT_FALSE(fs::exists(path("x.png")));
}

TEST_F(ClipOutputs, ALinkStaysAndItsTargetIsReplaced) {
  write_bytes(path("real/target.npy"), "old");
  fs::create_symlink("real/target.npy", path("link.npy"));
  ASSERT_EQ(run({"embed", short_clip(), "--out", path("link.npy")}).code, 0);
  EXPECT_TRUE(fs::is_symlink(path("link.npy")));
  EXPECT_EQ(io::read_npy(path("real/target.npy")).shape(), Shape({1, 64}));
  const CommandResult open =
      shell("ln -s /proc/self/fd/1 '" + path("out") + "'; " +
            line("embed", "'" + short_clip() + "' --out '" + path("out") + "'"));
  EXPECT_EQ(open.code, 73) << open.err;
  EXPECT_TRUE(fs::is_symlink(path("out")));
}

TEST_F(ClipOutputs, NumbersThatAreNoneOrTooLargeAreRefused) {
  const std::string out = path("x.npy");
  for (const char* value : {"nan", "inf", "-1", "0", "1e300", "1e7", "1e-5"}) {
    expect_usage(run({"predict", short_clip(), "--every", value}), "--every");
    expect_usage(run({"predict", short_clip(), "--window", value}), "--window");
    expect_usage(run({"embed", short_clip(), "--out", out, "--max-seconds", value}),
                 "--max-seconds");
    expect_usage(run({"embed", short_clip(), "--out", out, "--timestamps", "--every", value}),
                 "--every");
    expect_usage(run_command({"inspect", "passt-s", "--memory", "--seconds", value}), "--seconds");
  }
  for (const char* value : {"nan", "inf", "-1", "1e7"}) {
    expect_usage(run({"explain", short_clip(), "--out", path("x.png"), "--from", value}), "--from");
    expect_usage(run_command({"prepare", "--csv", "none", "--out", out, "--min-popularity", value}),
                 "--min-popularity");
  }
  EXPECT_EQ(run({"predict", short_clip(), "--every", "30000"}).code, 0);
}

TEST_F(ClipOutputs, EmptyTextsAreRefused) {
  expect_usage(run_command({"mel", short_clip(), "--out", ""}), "--out");
  expect_usage(run({"predict", short_clip(), "--npy", ""}), "--npy");
  expect_usage(run({"predict", ""}), "inputs");
  expect_usage(run_command({"train", "dense", "--data", "d", "--run", "r", "--init-from", ""}),
               "--init-from");
  expect_usage(run_command({"study", "--data", "d", "--out", "o", "--init-from", ""}),
               "--init-from");
}

TEST_F(ClipOutputs, OptionsThatMeanNothingAreRefused) {
  model_ = regressor();
  ASSERT_EQ(run({"predict", short_clip()}).code, 0);
  std::string names;
  for (int i = 0; i < 527; ++i) names += "c\n";
  write_bytes(path("names.txt"), names);
  for (const char* form : {"", "--csv", "--json"}) {
    std::vector<std::string> args = {"predict", short_clip()};
    if (*form != '\0') args.push_back(form);
    args.insert(args.end(), {"--top", "1"});
    expect_usage(run(args), "--top is for models of classes");
    args.resize(args.size() - 2);
    args.insert(args.end(), {"--classes", path("names.txt")});
    expect_usage(run(args), "--classes is for models of classes");
  }
  expect_usage(run({"embed", "--data", path("a"), "--out", path("f"), "--max-seconds", "1"}),
               "--max-seconds is for files");
}

// Between the look at what there is and the moment when it is its turn.
TEST_F(ClipOutputs, AnInputThatVanishesDoesNotCostTheOthers) {
  const std::string first = path("first"), gone = path("gone.wav");
  fs::copy_file(short_clip(), gone);
  ASSERT_EQ(::mkfifo(first.c_str(), 0600), 0);
  // The fifo opens when its turn has come.
  const CommandResult result =
      shell(line("predict", "'" + first + "' '" + gone + "' '" + short_clip() + "' --json --npy '" +
                                path("p.npy") + "'") +
            " & exec 3> '" + first + "'; rm '" + gone + "'; cat '" + short_clip() +
            "' >&3; exec 3>&-; wait $!");
  EXPECT_EQ(result.code, 66) << result.err;
  EXPECT_NE(result.err.find("gone.wav"), std::string::npos) << result.err;
  EXPECT_NE(result.out.find("short.wav"), std::string::npos) << result.out;
  EXPECT_EQ(io::read_npy(path("p.npy")).shape(), Shape({3, 527}));
}

TEST_F(ClipOutputs, AFullStdoutEndsTheWorkAtOnce) {
  const std::string clip = " '" + short_clip() + "'";
  for (const char* form : {"", " --json", " --csv"}) {
    const CommandResult full = shell(line("predict", clip + clip + clip + form) + " --npy '" +
                                     path("p.npy") + "' > /dev/full");
    EXPECT_EQ(full.code, 74);
    EXPECT_EQ(full.err, "onpa: cannot write to standard output: No space left on device\n");
    EXPECT_FALSE(fs::exists(path("p.npy")));
  }
}

// The command hears from a pipe that stays empty.
TEST_F(ClipOutputs, SignalsLeaveNoTemporaryFile) {
  const std::string pipe = path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int held = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(held, 0);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    ::signal(number, SIG_DFL);  // who started the test may ignore it
    Command command(
        "/bin/sh",
        {"-c", "exec " + line("embed", "- --out '" + path("x.npy") + "' < '" + pipe + "'")}, {});
    for (int i = 0; i < 2000 && leftovers(folder_.path()).empty(); ++i) ::usleep(5000);
    EXPECT_FALSE(leftovers(folder_.path()).empty());
    command.send(number);
    EXPECT_EQ(command.wait().code, 128 + number);
    EXPECT_EQ(leftovers(folder_.path()), std::vector<std::string>());
  }
  ::close(held);
  std::string clips;
  for (int i = 0; i < 100; ++i) clips += " '" + short_clip() + "'";
  shell(line("predict", clips + " --npy '" + path("p.npy") + "'") + " | head -1");
  EXPECT_EQ(leftovers(folder_.path()), std::vector<std::string>());
  EXPECT_FALSE(fs::exists(path("p.npy")));
}

TEST_F(ClipOutputs, ListsAsEditorsWriteThem) {
  const std::string at = path("@at.wav"), bom = "\xEF\xBB\xBF";
  fs::copy_file(short_clip(), at);
  write_bytes(path("list.txt"), bom + short_clip() + "\n");
  const CommandResult listed = run({"predict", "--list", path("list.txt")});
  EXPECT_EQ(listed.code, 0) << listed.err;
  EXPECT_EQ(run({"predict", "@" + path("list.txt")}).out, listed.out);
  std::string names = bom;
  for (int i = 0; i < 527; ++i) names += "class\n";
  write_bytes(path("names.txt"), names);
  const CommandResult named =
      run({"predict", short_clip(), "--top", "527", "--csv", "--classes", path("names.txt")});
  EXPECT_EQ(named.code, 0) << named.err;
  EXPECT_EQ(named.out.find(bom), std::string::npos);

  write_bytes(path("at.txt"), "@at.wav\n");
  const CommandResult file =
      shell("cd '" + folder_.path().string() + "' && " + line("predict", "--list at.txt"));
  EXPECT_EQ(file.code, 0) << file.err;
  write_bytes(path("lists.txt"), "@at.txt\n");
  expect_usage(run({"predict", "--list", path("lists.txt")}), "not lists");

  write_bytes(path("empty.txt"), "\n");
  for (const CommandResult& empty :
       {run({"predict", "--list", path("empty.txt")}), run({"predict", "@" + path("empty.txt")})}) {
    EXPECT_EQ(empty.code, 66) << empty.err;
    EXPECT_NE(empty.err.find(path("empty.txt") + ": names no inputs"), std::string::npos);
  }
}

TEST_F(ClipOutputs, FiguresOfAnyNameAreUtf8) {
  const std::string clip = path("a/\xFF\xC3.wav");
  fs::copy_file(short_clip(), clip);
  ASSERT_EQ(run({"explain", clip, "--out", path("x.svg")}).code, 0);
  const std::string svg = read_bytes(path("x.svg"));
  EXPECT_NE(svg.find("\xEF\xBF\xBD\xEF\xBF\xBD.wav"), std::string::npos) << svg.substr(0, 2000);
  EXPECT_EQ(svg.find('\xFF'), std::string::npos);
}

}  // namespace
}  // namespace onpa::testing
