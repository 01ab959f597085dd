#include "apps/report/report_study.h"

#include <gtest/gtest.h>

#include <functional>

#include "kernels/error.h"
#include "tests/study/report_fixture.h"

namespace onpa::apps::report {
namespace {

using onpa::testing::study_json;
using onpa::testing::StudyJson;

std::string error_of(const std::function<void(StudyJson&)>& change) {
  StudyJson json = study_json();
  change(json);
  try {
    parse_study(json.dump(), "S");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    return error.what();
  }
  return "none";
}

TEST(ReportStudy, ReadsWhatIsThere) {
  const Study study = parse_study(study_json().dump(), "S");
  EXPECT_EQ(study.models, (std::vector<std::string>{"passt", "dense"}));
  ASSERT_EQ(study.scopes.size(), 4u);
  EXPECT_EQ(study.all().name, "all data");
  EXPECT_EQ(study.all().done("dense")->errors.mae, 0.119);
  EXPECT_EQ(study.all().done("dense")->loss.size(), 20u);
  EXPECT_EQ(study.all().done("dense")->test_rmse[1].value, 0.15);
  EXPECT_EQ(study.all().difference->p, 0.0455);
  EXPECT_EQ(study.scopes[3].name, "</script><b>&\"'");
  EXPECT_EQ(study.made.at("cores"), "4");
  EXPECT_EQ(study.ranked_rows, 4);
  EXPECT_TRUE(std::isnan(study.all().done("passt")->energy_joules));
}

TEST(ReportStudy, ErrorsNameThePlace) {
  EXPECT_EQ(error_of([](StudyJson& j) { j.erase("peers"); }), "S: no key 'peers'");
  EXPECT_EQ(
      error_of([](StudyJson& j) { j["scopes"][2]["models"]["dense"]["metrics"].erase("mae"); }),
      "S.scopes[2].models.dense.metrics: no key 'mae'");
  EXPECT_EQ(error_of([](StudyJson& j) { j["scopes"][0]["test"] = "many"; }),
            "S.scopes[0].test: got \"many\", want a number or null");
  EXPECT_EQ(error_of([](StudyJson& j) { j["scopes"] = StudyJson::array(); }),
            "S.scopes: got [], want at least the scope of all data");
  EXPECT_EQ(error_of([](StudyJson& j) { j["scopes"][0]["models"]["passt"]["status"] = "odd"; }),
            "S.scopes[0].models.passt.status: got \"odd\", want done or failed");
  EXPECT_EQ(error_of([](StudyJson& j) { j["scopes"][0]["models"]["passt"]["mae_interval"] = {1}; }),
            "S.scopes[0].models.passt.mae_interval: got [1], want [low, high]");
  EXPECT_EQ(error_of([](StudyJson& j) {
              j["predicted_true"]["dense"]["counts"][3] = {1, 2};
            }).substr(0, 40),
            "S.predicted_true.dense.counts: got [[7.0");
  EXPECT_EQ(error_of([](StudyJson& j) { j["version"] = 2; }),
            "S.version: got 2, want 1, the version that this onpa reads");
  EXPECT_EQ(error_of([](StudyJson& j) { j["options"] = nullptr; }),
            "S.options: got null, want an object");
  EXPECT_EQ(error_of([](StudyJson&) {}), "none");
}

TEST(ReportStudy, NoJsonAndNoFile) {
  EXPECT_THROW(parse_study("{\"version\": 1,", "S"), Error);
  EXPECT_THROW(parse_study("\xff\xfe", "S"), Error);
  try {
    load_study("/nonexistent");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputMissing);
  }
}

}  // namespace
}  // namespace onpa::apps::report
