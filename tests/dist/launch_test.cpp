#include "dist/launch.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "dist/mpi.h"

namespace onpa::dist {
namespace {

using Settings = std::map<std::string, std::string>;

Launch launch(const Settings& settings) {
  return launch_of([&](const char* name) -> const char* {
    const auto found = settings.find(name);
    return found == settings.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal(const Settings& settings) {
  try {
    launch(settings);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kConfig);
    return e.what();
  }
  return "";
}

void expect_launch(const Launch& got, Launch::By by, int rank, int size, int local_rank) {
  EXPECT_EQ(got.by, by);
  EXPECT_EQ(got.rank, rank);
  EXPECT_EQ(got.size, size);
  EXPECT_EQ(got.local_rank, local_rank);
}

TEST(Launch, NothingSaidIsOneRank) {
  expect_launch(launch({}), Launch::By::kNobody, 0, 1, -1);
  EXPECT_EQ(launch({}).seconds, 300);
}

TEST(Launch, Mpirun) {
  Settings set = {{"OMPI_COMM_WORLD_RANK", "5"},
                  {"OMPI_COMM_WORLD_SIZE", "8"},
                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                  {"PMIX_RANK", "5"}};
  expect_launch(launch(set), Launch::By::kMpi, 5, 8, 1);
  // A batch script's own, which mpirun hands on.
  set["SLURM_PROCID"] = "0";
  set["SLURM_NTASKS"] = "8";
  set["MASTER_ADDR"] = "node1";
  set["MASTER_PORT"] = "29500";
  EXPECT_EQ(launch(set).rank, 5);
  EXPECT_EQ(launch(set).by, has_mpi() ? Launch::By::kMpi : Launch::By::kTcp);
  set["RANK"] = "5";
  set["WORLD_SIZE"] = "8";
  EXPECT_EQ(launch(set).rank, 5);
}

TEST(Launch, OneRankOfMpirunIsAlone) {
  expect_launch(launch({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}),
                Launch::By::kNobody, 0, 1, -1);
}

TEST(Launch, SrunWithPmix) {
  expect_launch(launch({{"PMIX_RANK", "3"},
                        {"SLURM_PROCID", "3"},
                        {"SLURM_NTASKS", "4"},
                        {"SLURM_LOCALID", "1"}}),
                Launch::By::kMpi, 3, 4, 1);
}

TEST(Launch, Torchrun) {
  Settings set = {{"RANK", "3"},         {"WORLD_SIZE", "4"},       {"LOCAL_RANK", "1"},
                  {"MASTER_ADDR", "a"},  {"MASTER_PORT", "29500"},  {"SLURM_PROCID", "0"},
                  {"SLURM_NTASKS", "2"}, {"ONPA_JOIN_SECONDS", "7"}};
  expect_launch(launch(set), Launch::By::kTcp, 3, 4, 1);
  EXPECT_EQ(launch(set).host, "a");
  EXPECT_EQ(launch(set).port, 29500);
  EXPECT_EQ(launch(set).seconds, 7);
  set["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  EXPECT_EQ(launch(set).port, 29501);
  set["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  EXPECT_EQ(launch(set).port, 29500);
}

TEST(Launch, AWorldOfOneIsAlone) {
  expect_launch(launch({{"RANK", "0"}, {"WORLD_SIZE", "1"}}), Launch::By::kNobody, 0, 1, -1);
}

TEST(Launch, Srun) {
  Settings set = {{"SLURM_PROCID", "5"},
                  {"SLURM_NTASKS", "6"},
                  {"SLURM_LOCALID", "2"},
                  {"MASTER_ADDR", "node1"},
                  {"MASTER_PORT", "4000"}};
  expect_launch(launch(set), Launch::By::kTcp, 5, 6, 2);
  set.erase("MASTER_PORT");  // a batch script
  expect_launch(launch(set), Launch::By::kNobody, 0, 1, -1);
  set["SLURM_STEP_NUM_TASKS"] = "6";
  EXPECT_NE(refusal(set).find("srun started 6 tasks that nothing joins"), std::string::npos);
  set["SLURM_STEP_NUM_TASKS"] = "1";
  expect_launch(launch(set), Launch::By::kNobody, 0, 1, -1);
}

TEST(Launch, LaunchersThatContradictEachOtherAreNamed) {
  const std::string text = refusal({{"OMPI_COMM_WORLD_RANK", "1"},
                                    {"OMPI_COMM_WORLD_SIZE", "2"},
                                    {"RANK", "0"},
                                    {"WORLD_SIZE", "4"}});
  EXPECT_NE(text.find("two launchers contradict each other: OMPI_COMM_WORLD_RANK=1, "
                      "OMPI_COMM_WORLD_SIZE=2, RANK=0, WORLD_SIZE=4"),
            std::string::npos)
      << text;
}

TEST(Launch, WhatIsMissingOrMakesNoSenseIsNamed) {
  const auto expect_words = [](const Settings& set, const std::string& words) {
    EXPECT_NE(refusal(set).find(words), std::string::npos) << refusal(set);
  };
  expect_words({{"RANK", "0"}}, "go together, there is RANK=0");
  expect_words({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}},
               "there is RANK=0, WORLD_SIZE=2, MASTER_ADDR=a");
  expect_words({{"RANK", "two"}, {"WORLD_SIZE", "2"}}, "RANK=two: want a whole number");
  expect_words({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}, "RANK=-1: want a whole number");
  expect_words({{"RANK", "2"}, {"WORLD_SIZE", "2"}}, "rank 2 of 2 cannot be");
  expect_words({{"RANK", "0"}, {"WORLD_SIZE", "0"}}, "rank 0 of 0 cannot be");
  expect_words({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "70000"}},
               "MASTER_PORT=70000: want 1 to 65535");
}

TEST(Launch, ARankAloneHasItsOwnValues) {
  run_alone([](Comm& comm) {
    EXPECT_EQ(comm.rank(), 0);
    EXPECT_EQ(comm.size(), 1);
    const Tensor x = Tensor::full({3}, 5), all = Tensor::zeros({3});
    comm.all_reduce(x);
    comm.all_gather(x, all);
    comm.barrier();
    EXPECT_EQ(x.to_vector<float>(), std::vector<float>(3, 5));
    EXPECT_EQ(all.to_vector<float>(), std::vector<float>(3, 5));
  });
  EXPECT_THROW(run_alone([](Comm&) { fail(ExitCode::kBadData, "row 7 is empty"); }), Error);
}

}  // namespace
}  // namespace onpa::dist
