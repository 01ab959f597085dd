#include "apps/report/report_tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "apps/report/report_text.h"
#include "apps/report/svg_plots.h"
#include "data/table.h"
#include "kernels/error.h"
#include "tests/study/report_fixture.h"

namespace onpa::apps::report {
namespace {

using onpa::testing::study_json;
using onpa::testing::StudyJson;
using onpa::testing::variant_json;

Study parsed(const StudyJson& json) {
  return parse_study(json.dump(), "study.json");
}

TEST(ReportTables, GenresAscendByTheFirstModelAndAllDataIsMarked) {
  const Table table = genres_table(parsed(study_json()));
  ASSERT_EQ(table.rows.size(), 4u);
  EXPECT_EQ(table.rows[0][0].text, "edm");
  EXPECT_EQ(table.rows[1][0].text, "honky-tonk");
  EXPECT_EQ(table.rows[3][0].text, "all data");
  EXPECT_EQ(table.marked, (std::vector<bool>{false, false, false, true}));
  StudyJson json = study_json();
  json["scopes"][1]["models"]["passt"]["metrics"]["mae"] = nullptr;
  EXPECT_EQ(genres_table(parsed(json)).rows[3][0].text, "edm");  // what is not known is last
}

TEST(ReportTables, CsvKeepsNumbersAndNames) {
  const std::string csv = table_csv(genres_table(parsed(study_json())));
  EXPECT_TRUE(
      csv.starts_with("scope,n,mae_passt,mae_passt_low,mae_passt_high,rank_passt,mae_dense,"
                      "mae_dense_low,mae_dense_high,rank_dense,difference,difference_low,"
                      "difference_high,wilcoxon_p\n"))
      << csv;
  EXPECT_NE(csv.find("\nall data,1000,0.107,0.106,0.108,2,0.119,0.118,0.12,2,0.012,0.01,0.014,"
                     "0.0455\n"),
            std::string::npos)
      << csv;
  EXPECT_NE(csv.find("\n\"</script><b>&\"\"'\",50,"), std::string::npos) << csv;
}

TEST(ReportTables, JsonHasNullForWhatIsUnknown) {
  StudyJson json = study_json();
  json["scopes"][2]["difference"] = nullptr;
  const StudyJson table = StudyJson::parse(table_json(genres_table(parsed(json))));
  EXPECT_EQ(table["rows"][1]["scope"], "honky-tonk");
  EXPECT_TRUE(table["rows"][1]["difference"].is_null());
  EXPECT_EQ(table["rows"][0]["rank_dense"], 1);
  EXPECT_EQ(table["rows"][2]["scope"], "</script><b>&\"'");
}

TEST(ReportTables, MarkdownHasOneLineARowAndNoMarkupFromData) {
  StudyJson json = study_json();
  json["scopes"][1]["name"] = "a|b\n*c*<i>";
  const std::string text = table_markdown(genres_table(parsed(json)));
  EXPECT_NE(text.find("| a\\|b \\*c\\*&lt;i> | 50 | 0.0300 (0.0290 to 0.0310) |"),
            std::string::npos)
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2 + 2 + 4);
}

TEST(ReportTables, ResultsHaveModelsVariantsBaselinesPeers) {
  StudyJson json = study_json();
  json["variants"] = {variant_json({}, "SMOGN", {}, 0.001, -0.004)};
  const Table table = results_table(parsed(json));
  std::vector<std::string> names;
  for (const auto& row : table.rows) names.push_back(row[0].text);
  EXPECT_EQ(names,
            (std::vector<std::string>{"PaSST", "Dense", "SMOGN", "constant mean", "linear"}));
}

TEST(ReportTables, PointsFollowTheMapOfTargets) {
  StudyJson json = study_json();
  const Study whole = parsed(json);
  EXPECT_EQ(whole.unit(), "popularity / 100");
  EXPECT_NEAR(whole.points(0.01), 1, 1e-12);
  json["data"]["card"]["target"] = {{"low", 40}, {"high", 60}};
  const Study part = parsed(json);
  EXPECT_EQ(part.unit(), "popularity / 20");
  const Table before = worst_table(whole), after = worst_table(part);
  ASSERT_FALSE(before.rows.empty());
  ASSERT_EQ(before.rows.size(), after.rows.size());
  for (std::size_t i = 0; i < before.rows.size(); ++i) {
    // From the lower end, a fifth of what it was.
    for (const std::size_t column : {3, 4}) {
      EXPECT_NEAR(after.rows[i][column].number - 40, before.rows[i][column].number / 5, 1e-9);
    }
    EXPECT_NEAR(after.rows[i][5].number, before.rows[i][5].number / 5, 1e-9);
  }
  json["data"]["card"]["target"] = {{"low", 60}, {"high", 40}};
  EXPECT_THROW(parsed(json), Error);
}

TEST(ReportTables, CostAddsTheGenresUp) {
  const Table table = cost_table(parsed(study_json()));
  ASSERT_EQ(table.rows.size(), 4u);
  EXPECT_EQ(table.rows[1][1].text, "3 genres, in all");
  EXPECT_EQ(table.rows[1][6].number, 3 * 8460.0);
  EXPECT_TRUE(std::isnan(table.rows[1][8].number));  // energy of none is known
}

TEST(ReportText, Numbers) {
  EXPECT_EQ(grouped(1159764), "1,159,764");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(-1000), "−1,000");
  EXPECT_EQ(grouped(NAN), "–");
  EXPECT_EQ(fixed(-0.00001, 3), "0.000");
  EXPECT_EQ(fixed(-0.5, 1), "−0.5");
  EXPECT_EQ(with_sign(0.00001, 4), "0.0000");
  EXPECT_EQ(with_sign(0.01, 2), "+0.01");
  EXPECT_EQ(significant(0.0000557, 3), "0.0000557");
  EXPECT_EQ(significant(2.35, 3), "2.35");
  EXPECT_EQ(significant(0, 3), "0");
  EXPECT_EQ(error_text(0.000012), "0.000012");
  EXPECT_EQ(error_text(0.107), "0.1070");
  EXPECT_EQ(p_text(1e-9), "< 0.001");
  EXPECT_EQ(p_text(0.0455), "0.045");
  EXPECT_EQ(duration(0.0421), "42 ms");
  EXPECT_EQ(duration(0.9999), "1.0 s");
  EXPECT_EQ(duration(10.8), "10.8 s");
  EXPECT_EQ(duration(200), "3 min 20 s");
  EXPECT_EQ(duration(3599.7), "1 h 0 min");
  EXPECT_EQ(duration(8460), "2 h 21 min");
  EXPECT_EQ(duration(360000), "4 d 4 h");
  EXPECT_EQ(bytes_text(6.4e9), "6.0 GiB");
  EXPECT_EQ(counted(1, "track", "tracks"), "1 track");
  EXPECT_EQ(listed({"a", "b", "c"}), "a, b and c");
}

TEST(ReportText, Words) {
  EXPECT_EQ(escape("<a href=\"x\">'&\x01"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\xEF\xBF\xBD");
  // U+20AC and U+1F3B5; a lone byte, an overlong "/", a surrogate, U+FFFE, a character cut short
  const std::string whole = "\xE2\x82\xAC\xF0\x9F\x8E\xB5", none = "\xEF\xBF\xBD";
  EXPECT_EQ(escape(whole), whole);
  for (const char* text : {"\xFF", "\xC0\xAF", "\xED\xA0\x80", "\xEF\xBF\xBE", "\xE2\x82"}) {
    std::string want = "a";
    for (std::size_t i = 0; i < std::string(text).size(); ++i) want += none;
    EXPECT_EQ(escape("a" + std::string(text) + "b"), want + "b");
    EXPECT_EQ(escape_markdown("a" + std::string(text) + "b"), want + "b");
  }
  EXPECT_EQ(shortened("großartig", 4), "groß…");
  EXPECT_EQ(shortened("groß", 4), "groß");
  EXPECT_EQ(base64("Man"), "TWFu");
  EXPECT_EQ(base64("Ma"), "TWE=");
  EXPECT_EQ(base64("M"), "TQ==");
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(quote_for_shell("a=b,c"), "a=b,c");
  EXPECT_EQ(quote_for_shell("it's $x"), "'it'\\''s $x'");
  EXPECT_EQ(quote_for_shell(""), "''");
}

TEST(Svg, LabelsOfAnAxisNeverOverlap) {
  for (const double low : {0.0, -3.0, 0.001, 12345.0}) {
    for (const double size : {1e-4, 0.0031, 0.17, 1.0, 19.0, 116.0, 8e4, 3e7}) {
      for (const double pixels : {60.0, 200.0, 286.0}) {
        for (const bool side_by_side : {true, false}) {
          const Ticks ticks = fit_ticks(low, low + size, pixels, side_by_side);
          ASSERT_EQ(ticks.labels.size(), ticks.values.size());
          for (std::size_t i = 0; i < ticks.values.size(); ++i) {
            EXPECT_GE(ticks.values[i], low - 1e-6 * size);
            EXPECT_LE(ticks.values[i], low + size * (1 + 1e-6));
            if (i == 0) continue;
            const double apart = (ticks.values[i] - ticks.values[i - 1]) / size * pixels;
            EXPECT_GE(apart,
                      side_by_side
                          ? (text_width(ticks.labels[i]) + text_width(ticks.labels[i - 1])) / 2
                          : 14)
                << low << " " << size << " " << pixels;
            EXPECT_NE(ticks.labels[i], ticks.labels[i - 1]);
          }
        }
      }
    }
  }
  const Ticks ticks = fit_ticks(0, 100, 286, true);
  EXPECT_EQ(ticks.labels, (std::vector<std::string>{"0", "20", "40", "60", "80", "100"}));
}

TEST(Svg, RangesAreRoundAndHoldTheirValues) {
  EXPECT_EQ(round_range(0, 0.167), (std::pair(0.0, 0.2)));
  const auto [low, high] = round_range(0.1402, 0.1571);
  EXPECT_LE(low, 0.1402);
  EXPECT_GE(high, 0.1571);
  EXPECT_LT(high - low, 0.03);
  EXPECT_LT(round_range(5, 5).first, 5);
  EXPECT_GT(round_range(0, 0).second, 0);
}

TEST(SvgPlots, NothingToDrawIsNoDrawing) {
  EXPECT_EQ(line_plot("l", "x", "y", {}, true), "");
  EXPECT_EQ(line_plot("l", "x", "y", {{.style = {}, .points = {{NAN, 1.0}}}}, false), "");
  EXPECT_EQ(histogram_plot("l", "x", {}), "");
  EXPECT_EQ(square_plot("l", "x", "y", 0, 1, {}), "");
  EXPECT_EQ(heat_plot("l", "x", "y", 0, 100, {{0.0}}, "passt"), "");
}

TEST(SvgPlots, TwoSeriesDifferByMoreThanColour) {
  const std::vector<std::pair<double, double>> points = {{1, 2}, {2, 3}};
  const std::string drawn = line_plot("l", "x", "y",
                                      {{.style = {"a", "passt"}, .points = points},
                                       {.style = {"b", "dense", true}, .points = points}},
                                      true);
  EXPECT_NE(drawn.find("curve dense second"), std::string::npos);
  EXPECT_NE(drawn.find("<circle"), std::string::npos);
  EXPECT_NE(drawn.find("<path"), std::string::npos);
}

TEST(SvgPlots, BarsAreAsLongAsTheirValues) {
  const std::string drawn = bar_plot("l", "x", 1, {{"a", "passt"}},
                                     {{.name = "half", .values = {{0.5, 0.4, 0.6, "tip"}}},
                                      {.name = "unknown", .values = {{NAN, NAN, NAN, ""}}}});
  EXPECT_NE(drawn.find("width=\"105\""), std::string::npos) << drawn;  // (328 - 118) / 2
  EXPECT_NE(drawn.find("<title>half\ntip</title>"), std::string::npos);
  EXPECT_EQ(drawn.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace onpa::apps::report
