// `onpa train` under mpirun.
#ifdef ONPA_MPIEXEC

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/apps/ranks_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;

constexpr double kBound = 1e-6;

std::vector<std::string> joined(std::vector<std::string> words,
                                const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// `args` of onpa on so many ranks; `more` are words that come after them.
std::unique_ptr<Command> start(int ranks, const std::vector<std::string>& args,
                               const std::vector<std::string>& more = {}) {
  const auto words = joined(joined(joined(mpi_words(ranks), {ONPA_COMMAND}), args), more);
  return std::make_unique<Command>(ONPA_MPIEXEC, words,
                                   std::map<std::string, std::string>{{"ONPA_THREADS", "1"}});
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

// Process ids of the ranks of a job, by rank.
std::map<int, pid_t> processes_of(pid_t mpirun) {
  std::map<int, pid_t> out;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream stat(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
    const std::size_t end = text.rfind(") ");
    if (end == std::string::npos) continue;
    std::istringstream fields(text.substr(end + 2));
    std::string state;
    pid_t parent = 0;
    fields >> state >> parent;
    if (parent != mpirun) continue;
    const std::string environment = read_bytes(entry.path() / "environ");
    const std::string key = "OMPI_COMM_WORLD_RANK=";
    const std::size_t at = environment.find(key);
    if (at != std::string::npos)
      out[std::stoi(environment.substr(at + key.size()))] = std::stoi(name);
  }
  return out;
}

class TrainMpi : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    audio_data(*folder_ / "audio", 40).save(*folder_ / "clips");
    feature_data(400).save(*folder_ / "rows");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static fs::path path(const std::string& name) { return *folder_ / name; }
  static std::vector<std::string> passt(const std::string& run,
                                        const std::vector<std::string>& more = {}) {
    return train_args("passt", path("clips"), path(run), small_passt(more));
  }
  static std::vector<std::string> dense(const std::string& run,
                                        const std::vector<std::string>& more = {}) {
    return train_args("dense", path("rows"), path(run), small_dense(more));
  }
  // Steps in the order of the metrics.
  static std::vector<int> steps_of(const std::string& run) {
    std::vector<int> out;
    std::istringstream in(read_bytes(path(run) / "metrics.jsonl"));
    for (std::string line; std::getline(in, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains("loss")) out.push_back(json["step"]);
    }
    return out;
  }

  inline static std::unique_ptr<TempFolder> folder_;
};

TEST_F(TrainMpi, TwoProcessesHaveTheWeightsOfOne) {
  const CommandResult one = run_command(passt("one", {"train.max_steps=10"}));
  ASSERT_EQ(one.code, 0) << one.err;
  const CommandResult two = start(2, passt("two", {"train.max_steps=10"}))->wait();
  ASSERT_EQ(two.code, 0) << two.err;
  EXPECT_LT(weight_difference(path("one"), path("two")), kBound);
  // One of them speaks.
  EXPECT_EQ(count_of(two.err, "step 10/10"), 1) << two.err;
  EXPECT_EQ(count_of(two.err, "2 ranks"), 1) << two.err;
  EXPECT_EQ(steps_of("two"), steps_of("one"));
  for (const char* log : {"rank_000.log", "rank_001.log"}) {
    EXPECT_NE(read_bytes(path("two") / "logs" / log).find("2 ranks"), std::string::npos) << log;
  }
  EXPECT_FALSE(fs::exists(path("one") / "logs"));
}

TEST_F(TrainMpi, ManyProcessesTrainAnEpochAndEvaluate) {
  const auto set =
      std::vector<std::string>{"train.epochs=1", "train.batch_size=32", "loader.workers=1"};
  ASSERT_EQ(run_command(passt("few", set)).code, 0);
  const CommandResult many = start(24, passt("many", set))->wait();
  ASSERT_EQ(many.code, 0) << many.err;
  EXPECT_LT(weight_difference(path("few"), path("many")), kBound);
}

TEST_F(TrainMpi, ASignalStopsAllAfterTheSameStep) {
  const std::vector<std::string> longer = {"train.epochs=400"};
  const auto job = start(3, dense("signalled", longer));
  ASSERT_TRUE(job->wait_for("epoch 2/")) << job->err();
  job->send(SIGUSR1);
  const CommandResult stopped = job->wait();
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_EQ(count_of(stopped.err, "stopped at step"), 1) << stopped.err;
  const std::vector<int> steps = steps_of("signalled");
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(last_step(path("signalled")), steps.back());
  for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], static_cast<int>(i) + 1);
  // Goes on with the same bits as a run that was not stopped.
  const std::string until = "train.max_steps=" + std::to_string(steps.back() + 7);
  ASSERT_EQ(start(3, dense("signalled", {longer[0], until}))->wait().code, 0);
  ASSERT_EQ(start(3, dense("unsignalled", {longer[0], until}))->wait().code, 0);
  EXPECT_TRUE(last_weights(path("signalled")) == last_weights(path("unsignalled")));
}

TEST_F(TrainMpi, AMistakeIsToldOnceBeforeMpiStarts) {
  const CommandResult typo = start(3, dense("typo", {"train.epohcs=3"}))->wait();
  EXPECT_EQ(typo.code, 78) << typo.err;
  EXPECT_EQ(count_of(typo.err, "did you mean 'train.epochs'"), 1) << typo.err;
  const CommandResult missing =
      start(3, train_args("dense", path("nowhere"), path("typo"), {}))->wait();
  EXPECT_EQ(missing.code, 66) << missing.err;
  EXPECT_EQ(count_of(missing.err, "nowhere"), 1) << missing.err;
  EXPECT_FALSE(fs::exists(path("typo")));
}

TEST_F(TrainMpi, AnErrorOfAllIsToldOnce) {
  ASSERT_EQ(start(2, dense("again", {"train.max_steps=2"}))->wait().code, 0);
  auto args = dense("again", {"train.max_steps=2"});
  args.insert(args.end(), {"--resume", "no"});
  const CommandResult again = start(3, args)->wait();
  EXPECT_EQ(again.code, 73) << again.err;
  EXPECT_EQ(count_of(again.err, "holds checkpoints already"), 1) << again.err;
}

TEST_F(TrainMpi, AnOddRankIsNamed) {
  auto other = joined({":", "-np", "1", "-x", "ONPA_TRAIN_LR=0.5", ONPA_COMMAND}, dense("odd"));
  const CommandResult odd = start(2, dense("odd"), other)->wait();
  EXPECT_EQ(odd.code, 78) << odd.err;
  EXPECT_EQ(count_of(odd.err, "rank 2 differs from the other ranks in settings: train.lr"), 1)
      << odd.err;
  EXPECT_FALSE(fs::exists(path("odd")));
}

// The file of one track is a pipe that nobody writes to, so whoever loads it waits for ever.
TEST_F(TrainMpi, ARankThatIsStuckIsNamed) {
  const TempFolder folder;
  fs::copy(path("audio"), folder / "audio", fs::copy_options::recursive);
  data::DataSet data = feature_data(40);
  data.audio_root = folder / "audio";
  for (data::Track& track : data.tracks) track.audio = track.id + ".mp3";
  data.save(folder / "data");
  fs::remove(folder / "audio/track0.mp3");
  ASSERT_EQ(mkfifo((folder / "audio/track0.mp3").c_str(), 0600), 0);
  const auto args = train_args("passt", folder / "data", folder / "run",
                               small_passt({"train.stall_seconds=2", "train.epochs=1",
                                            "data.wave_mixup=0", "loader.decode_process=false"}));
  for (const int ranks : {1, 2}) {
    const CommandResult stuck = ranks == 1 ? run_command(args) : start(ranks, args)->wait();
    EXPECT_EQ(stuck.code, 82) << stuck.err;
    EXPECT_NE(stuck.err.find("stalled: no progress for 2 s at step"), std::string::npos)
        << stuck.err;
    EXPECT_NE(stuck.err.find("in load"), std::string::npos) << stuck.err;
  }
}

TEST_F(TrainMpi, AFrozenRankIsNamedByTheOthers) {
  const auto job = start(3, dense("frozen", {"train.epochs=100000", "train.stall_seconds=2"}));
  ASSERT_TRUE(job->wait_for("epoch 2/")) << job->err();
  const std::map<int, pid_t> processes = processes_of(job->pid());
  ASSERT_EQ(processes.size(), 3u);
  kill(processes.at(1), SIGSTOP);
  const CommandResult frozen = job->wait();
  EXPECT_EQ(frozen.code, 82) << frozen.err;
  EXPECT_NE(frozen.err.find("rank 1 has not come: it does not answer"), std::string::npos)
      << frozen.err;
}

}  // namespace
}  // namespace onpa::testing

#endif
