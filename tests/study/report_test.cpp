#include "apps/report/report.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include "apps/report/report_page.h"
#include "apps/report/report_text.h"
#include "kernels/error.h"
#include "tests/study/report_fixture.h"
#include "tests/support/temp_folder.h"

namespace onpa::apps::report {
namespace {

using onpa::testing::read_bytes;
using onpa::testing::study_json;
using onpa::testing::StudyJson;
using onpa::testing::StudyOptions;
using onpa::testing::TempFolder;
using onpa::testing::variant_json;
using onpa::testing::write_bytes;

constexpr const char* kHostile = "</script><b>&\"'";

std::string page_of(const StudyJson& json) {
  return report_page(parse_study(json.dump(), "study.json"));
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The parts of a tag; `attributes` by name, in order.
struct Tag {
  bool closing = false, empty = false;
  std::string name;
  std::vector<std::pair<std::string, std::string>> attributes;
};

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-';
}

// Reads <name a="b" c>, </name> or <name .../>; false if it is none.
bool read_tag(const std::string& text, Tag& tag) {
  std::size_t at = 1;
  const auto word = [&] {
    const std::size_t from = at;
    while (at < text.size() && is_name(text[at])) ++at;
    return text.substr(from, at - from);
  };
  tag.closing = text[at] == '/';
  if (tag.closing) ++at;
  tag.name = word();
  while (!tag.name.empty() && at < text.size()) {
    if (text.compare(at, std::string::npos, ">") == 0) return true;
    tag.empty = text.compare(at, std::string::npos, "/>") == 0;
    if (tag.empty) return !tag.closing;
    if (text[at] != ' ' && text[at] != '\n') return false;
    ++at;
    const std::string name = word();
    if (name.empty()) return false;
    std::string value;
    if (text.compare(at, 2, "=\"") == 0) {
      const std::size_t end = text.find('"', at + 2);
      if (end == std::string::npos) return false;
      value = text.substr(at + 2, end - at - 2);
      at = end + 1;
    }
    tag.attributes.emplace_back(name, value);
  }
  return false;
}

// "" if every element that is opened is closed in order, no attribute is there twice, no id is
// used twice, what is referred to is in the page and no bare < or & stands in it; else the fault.
std::string fault_of_html(const std::string& page) {
  const std::set<std::string> void_elements = {"meta", "link", "br"};
  const std::set<std::string> referring = {"src", "href", "action", "data", "poster", "srcset"};
  std::vector<std::string> open;
  std::set<std::string> ids, anchors;
  std::size_t at = page.starts_with("<!DOCTYPE html>") ? 15 : 0;
  while (at < page.size()) {
    if (page[at] == '&') {
      bool reference = false;
      for (const char* name : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}) {
        reference |= page.compare(at, std::string(name).size(), name) == 0;
      }
      if (!reference) return "bare &: " + page.substr(at, 40);
    }
    if (page[at] != '<') {
      ++at;
      continue;
    }
    const std::size_t end = page.find('>', at);
    if (end == std::string::npos) return "no end of a tag";
    const std::string text = page.substr(at, end - at + 1);
    Tag tag;
    if (!read_tag(text, tag)) return "no tag: " + text.substr(0, 80);
    std::set<std::string> names;
    for (const auto& [name, value] : tag.attributes) {
      if (!names.insert(name).second) return "attribute twice: " + text;
      if (name == "id" && !ids.insert(value).second) return "id twice: " + text;
      if (!referring.contains(name)) continue;
      if (value.starts_with("#")) {
        anchors.insert(value.substr(1));
      } else if (!value.starts_with("data:")) {
        return "refers to elsewhere: " + text;
      }
    }
    at = end + 1;
    if (tag.closing) {
      if (open.empty() || open.back() != tag.name) return "closed out of order: " + text;
      open.pop_back();
    } else if (!tag.empty && !void_elements.contains(tag.name)) {
      open.push_back(tag.name);
      if (tag.name == "script" || tag.name == "style") {
        at = page.find("</" + tag.name + ">", at);
        if (at == std::string::npos) return "no end of " + tag.name;
      }
    }
  }
  for (const std::string& anchor : anchors) {
    if (!ids.contains(anchor)) return "no place: #" + anchor;
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

void expect_self_contained(const std::string& page) {
  for (const char* part : {"@import", "url(", "http://", "https://"}) EXPECT_FALSE(has(page, part));
}

StudyJson everything(const StudyOptions& options = {}) {
  StudyJson json = study_json(options);
  json["variants"] = {variant_json(options, kHostile, {"data.undersampled=false"}, -0.006, 0.03)};
  json["peers"] = {{{"name", "HistGradientBoosting"},
                    {"library", "scikit-learn"},
                    {"settings", {{"max_iter", 100}}},
                    {"seconds", 3.5},
                    {"metrics", onpa::testing::errors_json(1000, 0.115)},
                    {"mae_interval", {0.11, 0.12}},
                    {"bin_balanced", nullptr}}};
  json["floors"] = {{"passt", 0.08}, {"dense", 0.1}, {"passt_mae", 0.064}, {"dense_mae", 0.08}};
  json["failed"] = {
      {{"cell", kHostile}, {"exit_code", 80}, {"last_lines", {"one", "loss <nan> & gone"}}}};
  return json;
}

TEST(ReportPage, IsWholeHtmlThatNeedsNothingElse) {
  const std::string page = page_of(everything());
  EXPECT_EQ(fault_of_html(page), "");
  expect_self_contained(page);
  EXPECT_EQ(page.find("<!DOCTYPE html>"), 0u);
  for (const char* id : {"results", "changes", "genres", "errors", "popularity", "training",
                         "tracks", "cost", "settings", "again"}) {
    EXPECT_TRUE(has(page, std::string("<section id=\"") + id + "\"")) << id;
  }
}

TEST(ReportPage, TheCheckOfHtmlFindsFaults) {
  EXPECT_NE(fault_of_html("<p>a & b</p>"), "");
  EXPECT_NE(fault_of_html("<p><b>x</p></b>"), "");
  EXPECT_NE(fault_of_html("<p id=\"a\"></p><p id=\"a\"></p>"), "");
  EXPECT_NE(fault_of_html("<p title=\"a\"b\">x</p>"), "");
  EXPECT_NE(fault_of_html("<div>"), "");
  EXPECT_NE(fault_of_html("<a href=\"x.css\">y</a>"), "");
  EXPECT_NE(fault_of_html("<a href=\"#b\">y</a>"), "");
  EXPECT_NE(fault_of_html("<script>x"), "");
  EXPECT_EQ(fault_of_html("<div><br>x &amp; y</div>"), "");
}

TEST(ReportPage, EscapesWhatComesFromData) {
  StudyJson json = everything();
  json["made"]["device"] = kHostile;
  json["command"].push_back(kHostile);
  json["data"]["folder"] = kHostile;
  json["data"]["card"][kHostile] = kHostile;
  json["configs"]["dense"] = kHostile;
  json["worst"]["dense"][0]["id"] = kHostile;
  json["slowest"][0]["audio"] = kHostile;
  json["peers"][0]["name"] = kHostile;
  json["scopes"][1]["name"] = std::string("null\0byte\x1b[31m", 14);
  const std::string page = page_of(json);
  EXPECT_EQ(fault_of_html(page), "");
  EXPECT_FALSE(has(page, "</script><b>"));
  EXPECT_EQ(std::count(page.begin(), page.end(), '\0'), 0);
  EXPECT_EQ(std::count(page.begin(), page.end(), '\x1b'), 0);
  EXPECT_TRUE(has(page, "&lt;/script&gt;&lt;b&gt;&amp;&quot;&#39;"));
  // Once opened, the script's element is closed by its own end alone.
  EXPECT_EQ(page.find("</script>"), page.rfind("</script>"));
}

TEST(ReportPage, FailedPartsStandAboveTheAnswer) {
  const std::string page = page_of(everything());
  const std::size_t failed = page.find("1 part of this study failed");
  ASSERT_NE(failed, std::string::npos);
  EXPECT_LT(failed, page.find("class=\"answer\""));
  EXPECT_TRUE(has(page, "exit code 80"));
  EXPECT_TRUE(has(page, "loss &lt;nan&gt; &amp; gone"));
  EXPECT_FALSE(has(page_of(study_json()), "of this study failed"));
}

TEST(ReportPage, CasesWithLittleInThem) {
  StudyOptions dense;
  dense.models = {"dense"};
  StudyOptions none;
  none.genres = {};
  StudyOptions one;
  one.genres = {"edm"};
  StudyOptions bare;
  bare.models = {};
  for (const StudyOptions& options : {dense, none, one, bare}) {
    const std::string page = page_of(study_json(options));
    EXPECT_EQ(fault_of_html(page), "");
    expect_self_contained(page);
    EXPECT_FALSE(has(page, "nan"));
    EXPECT_FALSE(has(page, "inf\""));
  }
}

// Every value that may be null is, one after the other and then all at once.
TEST(ReportPage, NullsWhereTheyAreAllowed) {
  StudyOptions small;
  small.genres = {"edm", "club"};
  small.curve_points = small.heat_bins = 2;
  const auto set_null = [](StudyJson& json, const std::string& path) {
    json[StudyJson::json_pointer(path)] = nullptr;
  };
  std::vector<std::string> paths = {"/rank_correlation",
                                    "/peers",
                                    "/variants",
                                    "/error_by_bin",
                                    "/floors",
                                    "/slowest",
                                    "/failed",
                                    "/worst",
                                    "/predicted_true",
                                    "/data/card",
                                    "/data/hash",
                                    "/options/seed",
                                    "/options/draws",
                                    "/configs",
                                    "/options/confidence",
                                    "/made",
                                    "/command"};
  for (const char* scope : {"/scopes/0", "/scopes/2"}) {
    for (const char* key :
         {"/tracks", "/train", "/train_kept", "/test", "/difference/mae", "/difference/low",
          "/difference/wilcoxon", "/baselines/linear/r2", "/baselines/constant mean/mae"}) {
      paths.push_back(std::string(scope) + key);
    }
    const StudyJson dense = study_json(small)["scopes"][0]["models"]["dense"];
    for (const auto& [key, value] : dense.items()) {
      if (key == "status") continue;
      for (const char* model : {"/models/dense/", "/models/passt/"}) {
        paths.push_back(std::string(scope) + model + key);
      }
    }
    paths.push_back(std::string(scope) + "/baselines");
    paths.push_back(std::string(scope) + "/difference");
  }
  StudyJson all = everything(small);
  for (const std::string& path : paths) {
    StudyJson json = everything(small);
    set_null(json, path);
    const std::string page = page_of(json);
    EXPECT_FALSE(has(page, "nan ") || has(page, ">nan") || has(page, "\"nan")) << path;
    set_null(all, path);
  }
  EXPECT_EQ(fault_of_html(page_of(all)), "");
  EXPECT_FALSE(has(page_of(all), ">nan"));
}

TEST(ReportPage, StaysSmall) {
  StudyOptions options;
  options.genres.clear();
  for (int i = 0; i < 114; ++i) options.genres.push_back("some-genre-" + std::to_string(i));
  options.curve_points = 400;
  options.heat_bins = 50;
  const std::string page = page_of(study_json(options));
  EXPECT_LT(page.size(), 2u << 20);
  EXPECT_TRUE(has(page, "some-genre-113"));
}

TEST(ReportPage, NoUndersamplingNoWordOfIt) {
  StudyJson json = study_json();
  EXPECT_TRUE(has(page_of(json), "Undersampling kept 3,000 of 4,000 train tracks"));
  json["scopes"][0]["train_kept"] = 4000;
  EXPECT_TRUE(has(page_of(json), "No train track was removed"));
}

TEST(ReportFiles, PageAndTwinsOfEveryTable) {
  const TempFolder folder;
  write_bytes(folder / "study.json", everything().dump());
  write_report(folder.path());
  const std::string page = read_bytes(folder / "report.html");
  EXPECT_EQ(page, page_of(everything()));
  for (const char* name : {"table1", "table2", "variants", "error_by_bin", "worst_tracks",
                           "slowest_tracks", "cost", "counts", "failed"}) {
    const std::string stem = std::string("tables/") + name;
    EXPECT_FALSE(read_bytes(folder / (stem + ".csv")).empty()) << name;
    EXPECT_FALSE(read_bytes(folder / (stem + ".md")).empty()) << name;
    const StudyJson json = StudyJson::parse(read_bytes(folder / (stem + ".json")));
    EXPECT_EQ(json["name"], name);
    EXPECT_FALSE(json["rows"].empty()) << name;
    // The page holds the same files.
    EXPECT_TRUE(has(page, base64(read_bytes(folder / (stem + ".csv")))) ||
                name == std::string("failed"))
        << name;
  }
}

TEST(ReportFiles, AnotherPlaceForThePage) {
  const TempFolder folder, out;
  write_bytes(folder / "study.json", study_json().dump());
  write_report(folder.path(), out / "deep/page.html");
  EXPECT_TRUE(std::filesystem::exists(out / "deep/page.html"));
  EXPECT_TRUE(std::filesystem::exists(out / "deep/tables/table2.csv"));
  EXPECT_FALSE(std::filesystem::exists(folder / "report.html"));
  EXPECT_FALSE(std::filesystem::exists(folder / "tables"));
}

TEST(ReportFiles, NoFolderBesideAPageThatIsRefused) {
  const TempFolder folder, out;
  write_bytes(folder / "study.json", study_json().dump());
  ASSERT_EQ(::mkfifo((out / "page").c_str(), 0600), 0);
  EXPECT_THROW(write_report(folder.path(), out / "page"), Error);
  EXPECT_FALSE(std::filesystem::exists(out / "tables"));
}

TEST(ReportFiles, BadStudyLeavesTheOldReport) {
  const TempFolder folder;
  write_bytes(folder / "study.json", "{}");
  write_bytes(folder / "report.html", "old");
  EXPECT_THROW(write_report(folder.path()), Error);
  EXPECT_EQ(read_bytes(folder / "report.html"), "old");
}

TEST(ReportCommand, WritesAndRefuses) {
  const TempFolder folder;
  write_bytes(folder / "study.json", study_json().dump());
  const auto code = [&](const std::string& arguments) {
    const int status = std::system((std::string(ONPA_COMMAND) + " report " + arguments + " > " +
                                    (folder / "out").string() + " 2> " + (folder / "err").string())
                                       .c_str());
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(code(folder.path().string()), 0);
  EXPECT_EQ(read_bytes(folder / "out"), (folder / "report.html").string() + "\n");
  EXPECT_EQ(code((folder / "absent").string()), 66);
  EXPECT_TRUE(has(read_bytes(folder / "err"), "study.json"));
  write_bytes(folder / "study.json", "{\"version\": 1}");
  EXPECT_EQ(code(folder.path().string()), 65);
  EXPECT_TRUE(has(read_bytes(folder / "err"), "no key 'made'"));
}

}  // namespace
}  // namespace onpa::apps::report
