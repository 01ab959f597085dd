#include "data/decoder_pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <thread>

#include "audio/decode.h"
#include "tests/data/loader_support.h"

namespace onpa::data {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kLimitsMemory = false;
#else
constexpr bool kLimitsMemory = true;
#endif

DecoderOptions own_process(double seconds = 60) {
  return {.command = {ONPA_COMMAND, "decode-worker"}, .seconds = seconds};
}

// Processes that this one has started and not waited for.
std::vector<pid_t> children() {
  std::vector<pid_t> out;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::string text;
    std::getline(std::ifstream(entry.path() / "stat"), text);
    // "17 (name) S PARENT ..."
    const std::size_t bracket = text.rfind(')');
    if (bracket != std::string::npos && std::atoi(text.c_str() + bracket + 4) == getpid()) {
      out.push_back(std::stoi(name));
    }
  }
  return out;
}

// Waits for what has to come, and fails the test if it does not.
template <class Condition>
void wait_until(const Condition& condition) {
  bool there = condition();
  for (int i = 0; i < 60000 && !there; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    there = condition();
  }
  ASSERT_TRUE(there);
}

class DecoderPoolTest : public AudioLoaderTest {
 protected:
  static fs::path file(const std::string& name) { return *folder_ / name; }

  // A file that keeps who reads it waiting.
  static fs::path make_fifo(const std::string& name) {
    const fs::path path = file(name);
    fs::remove(path);
    EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
    return path;
  }

  // The one decoder, which is not `before`, as soon as it reads the fifo; it gets no more than the
  // writer has, which is set to wait for nobody.
  static pid_t reader(const fs::path& fifo, pid_t before, int& writer) {
    pid_t process = 0;
    wait_until([&] {
      const auto all = children();
      if (all.size() == 1) process = all[0];
      return process != 0 && process != before;
    });
    wait_until([&] { return (writer = open(fifo.c_str(), O_WRONLY | O_NONBLOCK)) >= 0; });
    return process;
  }

  static std::future<audio::Clip> begin(DecoderPool& pool, const fs::path& path) {
    return std::async(std::launch::async, [&pool, path] { return pool.decode(path); });
  }

  static std::vector<float> samples(const fs::path& path) {
    return audio::decode_file(path).samples;
  }
};

TEST_F(DecoderPoolTest, GivesWhatThisProcessWouldGive) {
  DecoderPool pool(own_process());
  EXPECT_TRUE(children().empty());  // before the first file
  for (int i = 0; i < kTracks; ++i) {
    const fs::path path = file(std::to_string(i) + ".mp3");
    const audio::Clip want = audio::decode_file(path), got = pool.decode(path);
    EXPECT_EQ(got.rate_hz, want.rate_hz);
    EXPECT_TRUE(got.samples == want.samples) << path;
  }
  for (const char* name : {"text.mp3", "zeros.mp3", "missing.mp3", "."}) {
    try {
      audio::decode_file(file(name));
      ADD_FAILURE() << name << " decodes";
    } catch (const Error& want) {
      expect_error(want.code(), {want.what()}, [&] { pool.decode(file(name)); });
    }
  }
  EXPECT_EQ(children().size(), 1u);  // one and the same for all
  EXPECT_EQ(pool.problem(), "");
}

TEST_F(DecoderPoolTest, ItsProcessHasNoFilesOfThisOneAndEndsWithThePool) {
  const int open_here = open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as libraries do
  {
    DecoderPool pool(own_process());
    pool.decode(file("0.mp3"));
    ASSERT_EQ(children().size(), 1u);
    const fs::path files = "/proc/" + std::to_string(children()[0]) + "/fd";
    EXPECT_EQ(std::distance(fs::directory_iterator(files), {}), 5);
  }
  close(open_here);
  EXPECT_TRUE(children().empty());
}

TEST_F(DecoderPoolTest, ADecoderThatDiesTakesItsFileAlone) {
  const fs::path fifo = make_fifo("dies.mp3");
  DecoderPool pool(own_process());
  auto clip = begin(pool, fifo);
  int writer = -1;
  kill(reader(fifo, 0, writer), SIGABRT);
  expect_error(ExitCode::kBadData, {fifo.string() + ": the decoder died of SIGABRT"},
               [&] { clip.get(); });
  close(writer);
  EXPECT_EQ(pool.decode(file("0.mp3")).samples, samples(file("0.mp3")));
  EXPECT_EQ(children().size(), 1u);
}

TEST_F(DecoderPoolTest, ADecoderThatTakesTooLongIsKilled) {
  const fs::path fifo = make_fifo("hangs.mp3");
  DecoderPool pool(own_process(0.5));
  expect_error(ExitCode::kBadData, {fifo.string() + ": the decoder took more than 0.5 s"},
               [&] { pool.decode(fifo); });
  EXPECT_TRUE(children().empty());
}

TEST_F(DecoderPoolTest, ADecoderThatTakesTooMuchMemoryLosesTheFile) {
  if (!kLimitsMemory) GTEST_SKIP() << "its shadow memory has no limit";
  const fs::path path = file("large.mp3");
  std::ofstream(path) << "x";
  fs::resize_file(path, 900'000'000);  // without content
  DecoderOptions options = own_process();
  options.max_bytes = std::uint64_t{800} << 20;
  DecoderPool pool(options);
  expect_error(ExitCode::kBadData, {path.string() + ": the decoder ran out of memory"},
               [&] { pool.decode(path); });
  EXPECT_EQ(pool.decode(file("0.mp3")).samples, samples(file("0.mp3")));
  EXPECT_EQ(pool.problem(), "");
  fs::remove(path);
}

// Ctrl-C, or what a scheduler sends to a whole group of processes.
TEST_F(DecoderPoolTest, SignalsForItsOwnerDoNotEndADecoder) {
  const fs::path fifo = make_fifo("signals.mp3");
  DecoderPool pool(own_process());
  auto clip = begin(pool, fifo);
  int writer = -1;
  const pid_t decoder = reader(fifo, 0, writer);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT, SIGTSTP, SIGALRM}) {
    kill(decoder, number);
  }
  std::ofstream(fifo, std::ios::binary) << std::ifstream(file("3.mp3")).rdbuf();
  close(writer);
  EXPECT_EQ(clip.get().samples, samples(file("3.mp3")));
  EXPECT_EQ(children(), std::vector<pid_t>{decoder});
}

TEST_F(DecoderPoolTest, AFileWhoseDecoderSomebodyKilledIsTriedAgain) {
  const fs::path fifo = make_fifo("killed.mp3");
  DecoderPool pool(own_process());
  auto clip = begin(pool, fifo);
  int writer = -1;
  const pid_t first = reader(fifo, 0, writer);
  close(writer);
  clip.wait();  // an empty file
  clip = begin(pool, fifo);
  EXPECT_EQ(reader(fifo, 0, writer), first);
  kill(first, SIGKILL);
  close(writer);
  pid_t second = reader(fifo, first, writer);
  std::ofstream(fifo, std::ios::binary) << std::ifstream(file("3.mp3")).rdbuf();
  close(writer);
  EXPECT_EQ(clip.get().samples, samples(file("3.mp3")));

  kill(second, SIGKILL);  // while it has nothing to do
  EXPECT_EQ(pool.decode(file("4.mp3")).samples, samples(file("4.mp3")));

  clip = begin(pool, fifo);
  for (pid_t last = 0, time = 0; time < 2; ++time) {
    last = reader(fifo, last, writer);
    kill(last, SIGKILL);
    close(writer);
  }
  expect_error(ExitCode::kBadData, {fifo.string() + ": the decoder died of SIGKILL"},
               [&] { clip.get(); });
}

TEST_F(DecoderPoolTest, CancelEndsAFileThatHangs) {
  const fs::path fifo = make_fifo("cancel.mp3");
  DecoderPool pool(own_process(1e6));
  auto clip = begin(pool, fifo);
  int writer = -1;
  reader(fifo, 0, writer);
  pool.cancel();
  expect_error(ExitCode::kStopped, {"cancelled"}, [&] { clip.get(); });
  close(writer);
  EXPECT_TRUE(children().empty());
}

TEST_F(DecoderPoolTest, WithoutAProcessItDecodesHere) {
  const fs::path path = file("0.mp3"), tries = file("tries");
  const auto want = audio::decode_file(path).samples;
  DecoderPool none({});
  EXPECT_EQ(none.decode(path).samples, want);
  EXPECT_EQ(none.problem(), "");

  DecoderPool missing({.command = {"/nonexistent/onpa"}});
  EXPECT_EQ(missing.decode(path).samples, want);
  EXPECT_NE(missing.problem().find("/nonexistent/onpa: No such file"), std::string::npos)
      << missing.problem();
  expect_error(ExitCode::kInputMissing, {"missing.mp3"},
               [&] { missing.decode(file("missing.mp3")); });

  DecoderPool dies({.command = {"/bin/sh", "-c", "echo >> '" + tries.string() + "'; exit 3"}});
  for (int i = 0; i < 6; ++i) EXPECT_EQ(dies.decode(path).samples, want);
  EXPECT_EQ(dies.problem(), "the decoder ended with code 3 when it was started");
  EXPECT_EQ(fs::file_size(tries), 3u);  // then it rests
  EXPECT_TRUE(children().empty());
}

TEST_F(AudioLoaderTest, DecodersInProcessesChangeNothing) {
  const DataSet data = spoilt_set();
  AudioLoader here(data, all_rows(), training_options(2));
  for (const int workers : {0, 3}) {
    LoaderOptions options = training_options(workers);
    options.decoder = own_process();
    AudioLoader there(data, all_rows(), options);
    for (const std::uint64_t epoch : {0, 1}) {
      EXPECT_TRUE(epoch_of(there, epoch) == epoch_of(here, epoch)) << epoch;
    }
    const auto want = here.bad_tracks(), got = there.bad_tracks();
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].reason, want[i].reason);
    EXPECT_EQ(there.decoder_problem(), "");
  }
  EXPECT_TRUE(children().empty());
}

TEST_F(DecoderPoolTest, AFileOnWhichADecoderHangsIsABadTrack) {
  DataSet data = good_set(), without = good_set();
  make_fifo("never.mp3");
  data.tracks[6].audio = "never.mp3";
  without.tracks[6].audio = "missing.mp3";
  LoaderOptions options = training_options(2);
  AudioLoader other(without, all_rows(), options);
  options.decoder = own_process(2);
  AudioLoader loader(data, all_rows(), options);
  for (const std::uint64_t epoch : {0, 1}) {
    EXPECT_TRUE(epoch_of(loader, epoch) == epoch_of(other, epoch)) << epoch;
  }
  ASSERT_EQ(loader.bad_tracks().size(), 1u);
  EXPECT_NE(loader.bad_tracks()[0].reason.find("never.mp3: the decoder took more than 2 s"),
            std::string::npos)
      << loader.bad_tracks()[0].reason;
}

}  // namespace
}  // namespace onpa::data
