#include "apps/study/study.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "apps/study/corpus.h"
#include "apps/study/prepare.h"
#include "kernels/error.h"
#include "tests/study/study_support.h"

namespace onpa::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Study : public ::testing::Test {
 protected:
  Study() { study_data(600).save(folder_ / "data"); }
  CommandResult run(const std::vector<std::string>& more = {},
                    const std::map<std::string, std::string>& env = {}) {
    return run_command(small_study(folder_.path(), more), env);
  }
  fs::path study() const { return folder_ / "study"; }

  TempFolder folder_{quick_parent()};
};

double mean_absolute_error(const fs::path& predictions) {
  std::ifstream file(predictions);
  std::string line;
  std::getline(file, line);
  EXPECT_EQ(line, "id,target,prediction");
  double sum = 0;
  int n = 0;
  for (; std::getline(file, line); ++n) {
    const std::size_t first = line.find(','), second = line.find(',', first + 1);
    sum += std::abs(std::stod(line.substr(first + 1)) - std::stod(line.substr(second + 1)));
  }
  return sum / n;
}

TEST_F(Study, TrainsAndComparesEveryScope) {
  const CommandResult result = run();
  ASSERT_EQ(result.code, 0) << result.err;
  const Json json = study_json(folder_.path());
  ASSERT_EQ(json["scopes"].size(), 4u);
  EXPECT_EQ(json["scopes"][0]["name"], "all data");
  EXPECT_EQ(json["scopes"][1]["slug"], "hip-hop");
  std::set<int> ranks;
  for (const Json& scope : json["scopes"]) {
    const Json& cell = scope["models"]["dense"];
    EXPECT_EQ(cell["status"], "done");
    EXPECT_EQ(cell["epochs"], 3);
    EXPECT_EQ(cell["parameters"], 2 * 8 + 8 + 8 + 1);
    EXPECT_EQ(cell["metrics"]["n"], scope["test"]);
    EXPECT_LT(scope["train_kept"], scope["train"]);
    const double mae = cell["metrics"]["mae"];
    EXPECT_NEAR(mae,
                mean_absolute_error(study() / "results" /
                                    (scope["slug"].get<std::string>() + "_dense.csv")),
                1e-6);
    EXPECT_LE(cell["mae_interval"][0].get<double>(), mae);
    EXPECT_GE(cell["mae_interval"][1].get<double>(), mae);
    EXPECT_GT(cell["peak_memory_bytes"].get<double>(), 1e6);
    EXPECT_LT(cell["peak_memory_bytes"].get<double>(), 1e9);
    EXPECT_EQ(cell["eval_curve"].size(), 3u);
    EXPECT_FALSE(cell["loss_curve"].empty());
    EXPECT_GT(scope["baselines"]["constant mean"]["mae"].get<double>(), 0.05);
    EXPECT_TRUE(scope["difference"].is_null());
    ranks.insert(cell["rank"].get<int>());
  }
  EXPECT_EQ(ranks, (std::set<int>{1, 2, 3, 4}));
  EXPECT_TRUE(json["rank_correlation"].is_null());
  EXPECT_TRUE(json["failed"].empty());
  EXPECT_EQ(json["error_by_bin"].size(), 20u);
  EXPECT_EQ(json["worst"]["dense"].size(), 10u);
  std::int64_t counted = 0;
  for (const Json& row : json["predicted_true"]["dense"]["counts"]) {
    for (const Json& count : row) counted += count.get<std::int64_t>();
  }
  EXPECT_EQ(counted, json["scopes"][0]["test"]);
  EXPECT_NE(result.out.find("Table 2"), std::string::npos);
  EXPECT_NE(result.out.find("Hip Hop"), std::string::npos);
  EXPECT_NE(result.err.find("[4/4]"), std::string::npos) << result.err;
  for (const char* name : {"table1.md", "table2.csv", "table2.json"}) {
    EXPECT_TRUE(fs::exists(study() / name)) << name;
  }
}

TEST_F(Study, IsDoneOnceAndRefusesOtherSettings) {
  ASSERT_EQ(run().code, 0);
  const auto time = fs::last_write_time(study() / "results" / "edm_dense.json");
  const std::string metrics = read_bytes(study() / "runs" / "edm" / "dense" / "metrics.jsonl");
  const std::string table = read_bytes(study() / "table2.json");
  const CommandResult again = run();
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(fs::last_write_time(study() / "results" / "edm_dense.json"), time);
  EXPECT_EQ(read_bytes(study() / "runs" / "edm" / "dense" / "metrics.jsonl"), metrics);
  EXPECT_EQ(read_bytes(study() / "table2.json"), table);
  EXPECT_EQ(again.err.find("trained in"), std::string::npos) << again.err;

  const CommandResult other = run({"--set-dense", "train.lr=0.5"});
  EXPECT_EQ(other.code, 78);
  EXPECT_NE(other.err.find("dense, all data"), std::string::npos) << other.err;
  EXPECT_NE(other.err.find("train.lr"), std::string::npos) << other.err;

  data::DataSet changed = study_data(600);
  changed.tracks.pop_back();
  changed.save(folder_ / "data");
  const CommandResult data = run();
  EXPECT_EQ(data.code, 78);
  EXPECT_NE(data.err.find(": data;"), std::string::npos) << data.err;
  EXPECT_EQ(read_bytes(study() / "table2.json"), table);
}

TEST_F(Study, GoesOnWithoutAModelThatFailsAndTriesItAgain) {
  write_bytes(study() / "runs" / "edm" / "dense", std::string_view("in the way"));
  const CommandResult result = run();
  EXPECT_EQ(result.code, 1) << result.err;
  Json json = study_json(folder_.path());
  ASSERT_EQ(json["failed"].size(), 1u);
  EXPECT_EQ(json["failed"][0]["cell"], "dense, edm");
  EXPECT_EQ(json["failed"][0]["exit_code"], 73);
  EXPECT_NE(json["failed"][0]["last_lines"].dump().find("edm"), std::string::npos);
  EXPECT_NE(result.err.find("dense, edm failed with exit code 73"), std::string::npos);
  EXPECT_EQ(json["scopes"][2]["models"]["dense"]["status"], "failed");
  EXPECT_EQ(json["scopes"][1]["models"]["dense"]["status"], "done");
  EXPECT_NE(result.out.find("edm"), std::string::npos);
  fs::remove(study() / "runs" / "edm" / "dense");
  EXPECT_EQ(run().code, 0);
  json = study_json(folder_.path());
  EXPECT_TRUE(json["failed"].empty());
  EXPECT_EQ(json["scopes"][2]["models"]["dense"]["status"], "done");
}

TEST_F(Study, RefusesToBeARank) {
  const CommandResult result =
      run({}, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}});
  EXPECT_EQ(result.code, 64) << result.err;
  EXPECT_NE(result.err.find("runs/all-data/passt"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(study()));
}

TEST_F(Study, SettingsFromTheEnvironmentReachTheModels) {
  const CommandResult result =
      run({"--genres", "none"}, {{"ONPA_TRAIN_SEED", "9"}, {"ONPA_TRAIN_EPOCHS", "1"}});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string config =
      read_bytes(study() / "runs" / "all-data" / "dense" / "config.resolved.toml");
  EXPECT_NE(config.find("seed = 9\n"), std::string::npos) << config;
  EXPECT_NE(config.find("epochs = 3\n"), std::string::npos) << config;  // --set-dense comes last
}

TEST_F(Study, VariantsAreComparedWithThePlainModel) {
  const CommandResult result =
      run({"--genres", "none", "--variant", "wide net=dense:model.hidden=[16,4],train.lr=0.01"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json json = study_json(folder_.path());
  ASSERT_EQ(json["variants"].size(), 1u);
  const Json& variant = json["variants"][0];
  EXPECT_EQ(variant["settings"], Json({"model.hidden=[16,4]", "train.lr=0.01"}));
  EXPECT_EQ(variant["cell"]["parameters"], 2 * 16 + 16 + 16 * 4 + 4 + 4 + 1);
  const double plain = json["scopes"][0]["models"]["dense"]["metrics"]["mae"];
  EXPECT_NEAR(variant["difference"]["mae"].get<double>(),
              variant["cell"]["metrics"]["mae"].get<double>() - plain, 1e-9);
  EXPECT_TRUE(fs::exists(study() / "runs" / "all-data" / "dense-wide-net"));
  EXPECT_EQ(run({"--variant", "x=dense:train.nothing=1"}).code, 78);
  EXPECT_EQ(run({"--variant", "x=passt:train.lr=1"}).code, 78);
  EXPECT_EQ(run({"--variant", "x"}).code, 78);
}

TEST_F(Study, GenresCanStartFromTheModelOfAllData) {
  const auto weights = [&](const char* scope) {
    return read_bytes(study() / "runs" / scope / "dense" / "checkpoints" / "last" /
                      "model.safetensors");
  };
  ASSERT_EQ(run().code, 0);
  const std::string all_data = weights("all-data"), from_scratch = weights("edm");
  fs::remove_all(study());
  const CommandResult result = run({"--from", "all-data"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(weights("all-data"), all_data);
  EXPECT_NE(weights("edm"), from_scratch);
  const CommandResult other = run();
  EXPECT_EQ(other.code, 78);
  EXPECT_NE(other.err.find(": --from or --init-from;"), std::string::npos) << other.err;
}

TEST_F(Study, PeersAreMeasuredOnTheSameTracks) {
  const data::DataSet data = data::DataSet::load(folder_ / "data");
  std::string csv = "id,prediction\n";
  std::int64_t n = 0;
  for (const std::int64_t row : data.indices(data::Split::kTest)) {
    const data::Track& track = data.tracks[static_cast<std::size_t>(row)];
    csv += track.id + "," + std::to_string(track.popularity + 10) + "\n";
    ++n;
  }
  write_bytes(folder_ / "peers" / "forest.csv", csv);
  write_bytes(
      folder_ / "peers" / "forest.json",
      std::string_view(R"({"name":"forest","library":"sk","settings":{"a":1},"seconds":2})"));
  const std::vector<std::string> words = {"--genres", "none", "--peers", folder_ / "peers"};
  const CommandResult result = run(words);
  ASSERT_EQ(result.code, 0) << result.err;
  const Json peer = study_json(folder_.path())["peers"].at(0);
  EXPECT_EQ(peer["metrics"]["n"], n);
  EXPECT_NEAR(peer["metrics"]["mae"].get<double>(), 0.1, 1e-6);
  EXPECT_EQ(peer["seconds"], 2);
  EXPECT_NE(result.out.find("forest"), std::string::npos);
  write_bytes(folder_ / "peers" / "forest.csv", std::string_view("id,prediction\nnobody,1\n"));
  EXPECT_EQ(run(words).code, 65);
}

// The process that trains a cell, by the lock of its run.
pid_t trainer_of(const fs::path& run) {
  for (int i = 0; i < 3000; ++i) {
    const std::string lock = read_bytes(run / "lock");
    const std::size_t space = lock.find(' ');
    if (lock.ends_with("\n") && space != std::string::npos) return std::stoi(lock.substr(space));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return -1;
}

bool alive(pid_t pid) {
  const std::string stat = read_bytes("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t end = stat.rfind(')');
  return end != std::string::npos && stat.size() > end + 2 && stat[end + 2] != 'Z';
}

const std::vector<std::string> kEndless = {"--genres", "edm",         "--jobs",
                                           "2",        "--set-dense", "train.epochs=1000000"};

TEST_F(Study, StopsItsTrainersAndGoesOn) {
  const std::vector<std::string> long_run = {"--genres", "edm",         "--jobs",
                                             "1",        "--set-dense", "train.epochs=300"};
  ASSERT_EQ(run(long_run).code, 0);
  const std::string expected = read_bytes(study() / "results" / "all-data_dense.csv");
  fs::remove_all(study());

  Command command(small_study(folder_.path(), long_run));
  const pid_t trainer = trainer_of(study() / "runs" / "all-data" / "dense");
  ASSERT_GT(trainer, 0);
  command.send(SIGTERM);
  const CommandResult result = command.wait();
  EXPECT_EQ(result.code, 75) << result.err;
  EXPECT_FALSE(alive(trainer));
  EXPECT_FALSE(fs::exists(study() / "study.json"));
  const CommandResult on = run(long_run);
  EXPECT_EQ(on.code, 0) << on.err;
  EXPECT_EQ(read_bytes(study() / "results" / "all-data_dense.csv"), expected);
}

TEST_F(Study, ItsTrainersDieWithIt) {
  Command command(small_study(folder_.path(), kEndless));
  const pid_t first = trainer_of(study() / "runs" / "all-data" / "dense");
  const pid_t second = trainer_of(study() / "runs" / "edm" / "dense");
  ASSERT_GT(first, 0);
  ASSERT_GT(second, 0);
  EXPECT_TRUE(alive(first));
  // A second study keeps out of the folder.
  EXPECT_EQ(run(kEndless).code, 73);
  command.send(SIGKILL);
  EXPECT_EQ(command.wait().code, 128 + SIGKILL);
  for (int i = 0; i < 1000 && (alive(first) || alive(second)); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_FALSE(alive(first));
  EXPECT_FALSE(alive(second));
}

// Both models, on clips, with known floors.
TEST(StudyOfClips, ComparesAudioWithFeatures) {
  const TempFolder folder(quick_parent());
  apps::make_corpus(folder / "corpus", {.tracks = 90, .seconds = 0.5});
  apps::PrepareArgs prepare;
  prepare.csv = folder / "corpus" / "tracks.csv";
  prepare.audio = folder / "corpus" / "audio";
  prepare.out = folder / "data";
  ASSERT_EQ(apps::run_prepare(prepare), 0);
  std::vector<std::string> words = small_study(folder.path());
  words[6] = "passt,dense";
  words[8] = "20";
  for (const char* setting :
       {"model.preset=passt-xs", "data.seconds=0.5", "train.epochs=1", "train.patchout_time=1"}) {
    words.insert(words.end(), {"--set-passt", setting});
  }
  const CommandResult result = run_command(words);
  ASSERT_EQ(result.code, 0) << result.err;
  const Json json = study_json(folder.path());
  ASSERT_GE(json["scopes"].size(), 3u);
  EXPECT_EQ(json["options"]["models"], Json({"passt", "dense"}));
  for (const Json& scope : json["scopes"]) {
    const Json &passt = scope["models"]["passt"], &dense = scope["models"]["dense"];
    EXPECT_NEAR(scope["difference"]["mae"].get<double>(),
                dense["metrics"]["mae"].get<double>() - passt["metrics"]["mae"].get<double>(),
                1e-9);
    EXPECT_EQ(scope["difference"]["wilcoxon"]["n"], scope["test"]);
    EXPECT_GT(passt["parameters"].get<int>(), 10000);
  }
  EXPECT_EQ(json["rank_correlation"]["n"], json["scopes"].size());
  EXPECT_NEAR(json["floors"]["passt"].get<double>(), 0.08, 0.03);
  EXPECT_NE(result.out.find("Spearman"), std::string::npos);
  ASSERT_EQ(json["slowest"].size(), 10u);
  std::set<std::string> slow;
  for (std::size_t i = 0; i < 10; ++i) {
    const Json& track = json["slowest"][i];
    slow.insert(track["id"]);
    EXPECT_GT(track["seconds"].get<double>(), 0);
    EXPECT_LE(track["seconds"], json["slowest"][i == 0 ? 0 : i - 1]["seconds"]);
    EXPECT_TRUE(
        std::filesystem::exists(folder / "corpus" / "audio" / track["audio"].get<std::string>()));
  }
  EXPECT_EQ(slow.size(), 10u);
}

}  // namespace
}  // namespace onpa::testing
