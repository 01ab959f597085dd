#include "apps/study/scopes.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/error.h"
#include "tests/study/study_support.h"

namespace onpa::apps {
namespace {

std::vector<std::string> names_of(const std::vector<Scope>& scopes) {
  std::vector<std::string> out;
  for (const Scope& scope : scopes) out.push_back(scope.name);
  return out;
}

TEST(Scopes, AllDataThenGenresByNameThatAreLargeEnough) {
  const data::DataSet data = testing::study_data(400);
  std::vector<std::string> left_out;
  const auto scopes = study_scopes(data, {.min_tracks = 50}, left_out);
  EXPECT_EQ(names_of(scopes), (std::vector<std::string>{"all data", "Hip Hop", "edm", "noise"}));
  EXPECT_TRUE(scopes[0].all && scopes[0].rows.empty());
  EXPECT_EQ(scopes[1].slug, "hip-hop");
  EXPECT_EQ(left_out, (std::vector<std::string>{"tiny: 10 tracks"}));
  // A track of two genres counts in both.
  std::int64_t edm = 0;
  for (const data::Track& track : data.tracks) {
    const auto genres = track.genres();
    edm += std::ranges::count(genres, "edm");
  }
  EXPECT_EQ(std::ssize(scopes[2].rows), edm);
  EXPECT_EQ(names_of(study_scopes(data, {.genres = "none"}, left_out)),
            (std::vector<std::string>{"all data"}));
  EXPECT_EQ(names_of(study_scopes(data, {.genres = "tiny,edm"}, left_out)),
            (std::vector<std::string>{"all data", "edm", "tiny"}));
}

TEST(Scopes, UnknownGenreNamesTheNearest) {
  std::vector<std::string> left_out;
  try {
    study_scopes(testing::study_data(40), {.genres = "nois"}, left_out);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("noise"), std::string::npos) << error.what();
  }
}

TEST(Scopes, WithoutAudioThereIsNothingForAudioModels) {
  data::DataSet data = testing::study_data(400);
  std::vector<std::string> left_out;
  EXPECT_EQ(study_scopes(data, {.min_tracks = 50, .audio = true}, left_out).size(), 1u);
  for (data::Track& track : data.tracks) {
    if (track.genre == "noise") track.audio = "a.mp3";
  }
  EXPECT_EQ(names_of(study_scopes(data, {.min_tracks = 50, .audio = true}, left_out)),
            (std::vector<std::string>{"all data", "noise"}));
}

TEST(Scopes, NeedBothSidesOfTheSplit) {
  data::DataSet data = testing::study_data(400);
  for (data::Track& track : data.tracks) {
    // Some of them are edm too.
    if (track.genre.starts_with("noise")) track.split = data::Split::kTrain;
    if (track.genre.starts_with("tiny")) track.split = data::Split::kTest;
  }
  std::vector<std::string> left_out;
  study_scopes(data, {.min_tracks = 2}, left_out);
  EXPECT_EQ(left_out, (std::vector<std::string>{"noise: no test track", "tiny: no train track"}));
}

TEST(Scopes, SlugsAreDistinctAndDoNotDependOnTheChoice) {
  EXPECT_EQ(slug_of("Drum & Bass"), "drum-bass");
  EXPECT_EQ(slug_of("..//"), "genre");
  EXPECT_EQ(slug_of("Ça va"), "a-va");
  EXPECT_EQ(slug_of(std::string(500, 'x')).size(), 80u);
  data::DataSet data = testing::study_data(90);
  const std::vector<std::string> genres = {"R&B", "r b", "All data"};
  for (std::size_t i = 0; i < data.tracks.size(); ++i) data.tracks[i].genre = genres[i % 3];
  std::vector<std::string> left_out;
  const auto all = study_scopes(data, {}, left_out);
  std::set<std::string> slugs;
  for (const Scope& scope : all) slugs.insert(scope.slug);
  EXPECT_EQ(slugs, (std::set<std::string>{"all-data", "all-data-2", "r-b", "r-b-2"}));
  const auto one = study_scopes(data, {.genres = "r b"}, left_out);
  EXPECT_EQ(one[1].slug, "r-b-2");
}

TEST(GenreData, KeepsTheSplitAndIsUndersampledAnew) {
  const data::DataSet data = testing::study_data(900);
  std::vector<std::string> left_out;
  const auto scopes = study_scopes(data, {.genres = "noise"}, left_out);
  const data::DataSet genre = genre_data(data, scopes[1]);
  ASSERT_EQ(genre.tracks.size(), scopes[1].rows.size());
  std::vector<data::Track> expected;
  bool other_kept = false;
  for (std::size_t i = 0; i < genre.tracks.size(); ++i) {
    const data::Track& from = data.tracks[static_cast<std::size_t>(scopes[1].rows[i])];
    EXPECT_EQ(genre.tracks[i].id, from.id);
    EXPECT_EQ(genre.tracks[i].split, from.split);
    other_kept |= genre.tracks[i].kept != from.kept;
    expected.push_back(from);
  }
  EXPECT_TRUE(other_kept);
  data::UndersampleRule rule = data::parse_undersample("q0.5");
  rule.bin_width = 10;
  data::undersample(expected, rule, 4);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(genre.tracks[i].kept, expected[i].kept);
  }
}

}  // namespace
}  // namespace onpa::apps
