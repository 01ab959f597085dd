#include "apps/report/report_answer.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/study/report_fixture.h"

namespace onpa::apps::report {
namespace {

using onpa::testing::difference_json;
using onpa::testing::scope_json;
using onpa::testing::study_json;
using onpa::testing::StudyJson;
using onpa::testing::StudyOptions;
using onpa::testing::variant_json;

Study parsed(const StudyJson& json) {
  return parse_study(json.dump(), "study.json");
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr const char* kPercent = "95\u00a0%";

TEST(ReportAnswer, PasstBetter) {
  const std::vector<std::string> words = answer(parsed(study_json()));
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0],
            std::string("The waveform predicts popularity better than the features: over 1,000 "
                        "test tracks the mean absolute error of PaSST is 0.0120 lower than that "
                        "of Dense, 1.20 popularity points, and the ") +
                kPercent + " interval 0.0100 to 0.0140 excludes 0.");
  EXPECT_EQ(
      words[1],
      "Always predicting the mean has an error of 0.1250; that of PaSST is 14\u00a0% lower and "
      "that of Dense is 4.8\u00a0% lower; the order of the two is the other way round in 1 of 3 "
      "genres (honky-tonk), with an interval that excludes 0 in that genre.");
}

TEST(ReportAnswer, DenseBetterHasItsIntervalTurnedRound) {
  StudyJson json = study_json();
  json["scopes"][0] = scope_json({}, "all data", 1000, 0.119, 0.107, 2);
  json["scopes"][0]["difference"]["low"] = -0.015;
  json["scopes"][0]["difference"]["high"] = -0.010;
  const std::vector<std::string> words = answer(parsed(json));
  EXPECT_TRUE(has(words[0], "The features predict popularity better than the waveform"))
      << words[0];
  EXPECT_TRUE(has(words[0], "error of Dense is 0.0120 lower than that of PaSST")) << words[0];
  EXPECT_TRUE(has(words[0], "interval 0.0100 to 0.0150 excludes 0")) << words[0];
  EXPECT_TRUE(has(words[1], "in 2 of 3 genres (edm and </script><b>&\"')")) << words[1];
}

TEST(ReportAnswer, IntervalThatContainsZeroSettlesNothing) {
  StudyJson json = study_json();
  json["scopes"][0]["difference"] = difference_json(0.0012, 0.002);
  const std::vector<std::string> words = answer(parsed(json));
  EXPECT_TRUE(has(words[0], "These data do not settle which input is better")) << words[0];
  EXPECT_TRUE(has(words[0], "error of PaSST (waveform) is 0.0012 lower")) << words[0];
  EXPECT_TRUE(has(words[0], "interval −0.0008 to 0.0032 contains 0")) << words[0];
  // An interval that ends at 0 does not exclude it.
  json["scopes"][0]["difference"] = difference_json(0.002, 0.002);
  EXPECT_TRUE(has(answer(parsed(json))[0], "contains 0"));
}

TEST(ReportAnswer, Tie) {
  StudyJson json = study_json();
  json["scopes"][0] = scope_json({}, "all data", 1000, 0.11, 0.11, 1);
  const std::vector<std::string> words = answer(parsed(json));
  EXPECT_TRUE(has(words[0], "Neither input is better")) << words[0];
  EXPECT_TRUE(flips(parsed(json)).empty());
}

TEST(ReportAnswer, WithoutIntervalItMayBeChance) {
  StudyJson json = study_json();
  json["scopes"][0]["difference"] = nullptr;
  const std::vector<std::string> words = answer(parsed(json));
  EXPECT_TRUE(has(words[0], "The waveform (PaSST) had the lower mean absolute error")) << words[0];
  EXPECT_TRUE(has(words[0], "no interval")) << words[0];
}

TEST(ReportAnswer, WorseThanTheConstantIsSaid) {
  StudyJson json = study_json();
  json["scopes"][0]["baselines"]["constant mean"]["mae"] = 0.1185;
  const std::string second = answer(parsed(json))[1];
  EXPECT_TRUE(has(second, "that of Dense is 0.4\u00a0% higher, within its interval")) << second;
  EXPECT_TRUE(has(second, "that of PaSST is 9.7\u00a0% lower and")) << second;
}

TEST(ReportAnswer, FloorsWhereTheyAreKnown) {
  StudyJson json = study_json();
  json["floors"] = {{"passt", 0.12}, {"dense", 0.14}, {"passt_mae", 0.1}, {"dense_mae", 0.1125}};
  const std::string second = answer(parsed(json))[1];
  EXPECT_TRUE(has(second,
                  "the lowest error that is possible is 0.1000 from the waveform and 0.1125 from "
                  "the features: PaSST is 7.0\u00a0% above it and Dense is 5.8\u00a0% above it"))
      << second;
}

TEST(ReportAnswer, OneModelOnly) {
  StudyOptions options;
  options.models = {"dense"};
  const std::vector<std::string> words = answer(parsed(study_json(options)));
  EXPECT_TRUE(has(words[0],
                  "This study does not compare the inputs: of the two only the features "
                  "(Dense) has a result"))
      << words[0];
  EXPECT_FALSE(has(words[0], "has none")) << words[0];
  EXPECT_TRUE(has(words[1], "that of Dense is 4.8\u00a0% lower.")) << words[1];
}

TEST(ReportAnswer, FailedModelIsNamed) {
  StudyJson json = study_json();
  json["scopes"][0]["models"]["dense"] = {{"run", "r"}, {"status", "failed"}};
  json["scopes"][0]["difference"] = nullptr;
  EXPECT_TRUE(has(answer(parsed(json))[0], "; Dense has none.")) << answer(parsed(json))[0];
  json["scopes"][0]["models"]["passt"]["metrics"] = nullptr;
  EXPECT_TRUE(has(answer(parsed(json))[0], "There is no answer yet")) << answer(parsed(json))[0];
}

TEST(ReportAnswer, ManyFlipsAreCountedAndTheLargestNamed) {
  StudyJson json = study_json();
  for (int i = 0; i < 8; ++i) {
    json["scopes"].push_back(
        scope_json({}, "g" + std::to_string(i), 50, 0.05, 0.05 - 0.0025 - 0.0025 * i, 1));
  }
  json["scopes"][4]["difference"] = difference_json(-0.0025, 0.01);  // g0, not certain
  const std::string second = answer(parsed(json))[1];
  EXPECT_TRUE(has(second,
                  "in 9 of 11 genres (g7, g6, g5, g4, g3 and 4 others), with an interval "
                  "that excludes 0 in 8 of them"))
      << second;
  EXPECT_EQ(flips(parsed(json)).front().genre, "g7");
}

TEST(ReportAnswer, NoGenres) {
  StudyOptions options;
  options.genres = {};
  EXPECT_TRUE(has(answer(parsed(study_json(options)))[1], "no genre has both models to compare"));
}

TEST(ReportAnswer, LittleDataIsSaid) {
  StudyJson json = study_json();
  EXPECT_TRUE(cautions(parsed(json)).empty());
  json["scopes"][0]["test"] = 30;
  ASSERT_EQ(cautions(parsed(json)).size(), 1u);
  EXPECT_TRUE(has(cautions(parsed(json))[0], "Only 30 test tracks"));
}

TEST(ReportChanges, UndersamplingIsThePlainModelAgainstTheNaturalVariant) {
  StudyJson json = study_json();
  json["variants"] = {variant_json({}, "natural", {"data.undersampled=false"}, -0.006, 0.03)};
  std::string last = changes(parsed(json)).back();
  EXPECT_TRUE(has(last,
                  "with it the natural MAE is 0.0060 higher and the bin-balanced MAE 0.0300 "
                  "lower than without"))
      << last;
  EXPECT_TRUE(has(last, "the exchange that it is made for")) << last;
  json["variants"] = {variant_json({}, "natural", {"data.undersampled=false"}, 0.006, 0.03)};
  last = changes(parsed(json)).back();
  EXPECT_TRUE(has(last, "not the exchange")) << last;
}

TEST(ReportChanges, SkillOnShuffledTargetsIsALeak) {
  StudyJson json = study_json();
  StudyJson variant = variant_json({}, "shuffled", {"data.permute_targets=true"}, 0.01, 0.01);
  variant["cell"]["metrics"]["r2"] = -0.003;
  json["variants"] = {variant};
  EXPECT_TRUE(has(changes(parsed(json)).back(), "no skill, as it should be"));
  variant["cell"]["metrics"]["r2"] = 0.12;
  json["variants"] = {variant};
  EXPECT_TRUE(has(changes(parsed(json)).back(), "look for a leak"));
}

TEST(ReportChanges, OtherVariantsAndThoseThatFailed) {
  StudyJson json = study_json();
  json["variants"] = {variant_json({}, "SMOGN", {"data.rare=smogn"}, 0.0005, -0.004)};
  std::string last = changes(parsed(json)).back();
  EXPECT_TRUE(has(last,
                  "SMOGN (Dense, data.rare=smogn): the natural MAE is 0.0005 higher and the "
                  "bin-balanced MAE 0.0040 lower than of plain Dense"))
      << last;
  EXPECT_TRUE(has(last, "contains 0")) << last;
  json["variants"][0]["cell"] = {{"run", "r"}, {"status", "failed"}};
  json["variants"][0]["difference"] = nullptr;
  EXPECT_TRUE(has(changes(parsed(json)).back(), "did not finish"));
}

}  // namespace
}  // namespace onpa::apps::report
