#include "apps/report/report_page.h"

#include <algorithm>
#include <cmath>

#include "apps/report/report_answer.h"
#include "apps/report/report_text.h"

namespace onpa::apps::report {
namespace {

std::string paragraph(const std::string& text, const std::string& kind = "") {
  return "<p" + (kind.empty() ? "" : " class=\"" + kind + "\"") + ">" + escape(text) + "</p>\n";
}

// Empty if there is nothing in it.
std::string section(const std::string& id, const std::string& title, const std::string& content) {
  if (content.empty()) return "";
  return "<section id=\"" + id + "\"><h2>" + escape(title) + "</h2>\n" + content + "</section>\n";
}

std::string file_link(const Table& table, const std::string& ending, const std::string& type,
                      const std::string& name, const std::string& content) {
  return "<a download=\"" + table.name + "." + ending + "\" href=\"data:" + type +
         ";charset=utf-8;base64," + base64(content) + "\">" + name + "</a>";
}

// The table and, in the page itself, its files.
std::string table_with_files(const Table& table) {
  if (table.rows.empty()) return "";
  return table_html(table) + "<p class=\"files\">This table as " +
         file_link(table, "csv", "text/csv", "CSV", table_csv(table)) + ", " +
         file_link(table, "json", "application/json", "JSON", table_json(table)) + ", " +
         file_link(table, "md", "text/markdown", "Markdown", table_markdown(table)) + "</p>\n";
}

// What is long and not for everybody.
std::string folded(const std::string& title, const std::string& content) {
  if (content.empty()) return "";
  return "<details><summary>" + escape(title) + "</summary>" + content + "</details>\n";
}

std::string folded_text(const std::string& title, const std::string& text) {
  return folded(title, text.empty() ? "" : "<pre>" + escape(text) + "</pre>");
}

std::string key_figure(const std::string& kind, const std::string& name, const std::string& value,
                       const std::string& under) {
  return "<div class=\"" + kind + "\"><dt>" + escape(name) + "</dt><dd>" + escape(value) +
         "<small>" + escape(under) + "</small></dd></div>\n";
}

std::string interval_under(Interval interval) {
  if (!interval.known()) return "no interval";
  return error_text(interval.low) + " to " + error_text(interval.high);
}

std::string key_figures(const Study& study) {
  std::string out;
  for (const std::string& model : study.models) {
    const Cell* cell = study.all().done(model);
    const std::string kind = model == "passt" || model == "dense" ? model : "none";
    out += cell == nullptr
               ? key_figure(kind, model_name(model) + ", MAE", "–", "not finished")
               : key_figure(kind, model_name(model) + ", MAE", error_text(cell->errors.mae),
                            interval_under(cell->mae_interval));
  }
  if (const auto& d = study.all().difference; d && std::isfinite(d->mae)) {
    out += key_figure("none", "Dense − PaSST", (d->mae > 0 ? "+" : "") + error_text(d->mae),
                      interval_under(d->interval));
  }
  const bool both = study.all().done("passt") != nullptr && study.all().done("dense") != nullptr;
  if (const std::size_t genres = compared_genres(study).size(); both && genres > 0) {
    out += key_figure("none", "Order reversed", std::to_string(flips(study).size()),
                      "of " + counted(static_cast<double>(genres), "genre", "genres"));
  }
  return "<dl class=\"figures\">\n" + out + "</dl>\n";
}

std::string failed_part(const Study& study) {
  if (study.failed.empty()) return "";
  std::string out = "<div class=\"failed\" role=\"note\"><h2>" +
                    counted(static_cast<double>(study.failed.size()), "part", "parts") +
                    " of this study failed</h2>\n" +
                    paragraph("What follows is made of the rest. The same command tries again.");
  for (const FailedCell& cell : study.failed) {
    std::string lines;
    for (const std::string& line : cell.last_lines) lines += line + "\n";
    out += "<details><summary>" + escape(cell.cell) +
           (std::isfinite(cell.exit_code) ? ": exit code " + grouped(cell.exit_code) : "") +
           "</summary><pre class=\"wrap\">" + escape(lines) + "</pre></details>\n";
  }
  return out + "</div>\n";
}

std::string made(const Study& study, const std::string& key) {
  const auto found = study.made.find(key);
  return found == study.made.end() ? "" : found->second;
}

std::string head(const Study& study) {
  std::string facts;
  if (std::isfinite(study.all().tracks)) {
    facts = counted(study.all().tracks, "track", "tracks");
  }
  for (const char* key : {"utc", "device"}) {
    if (!made(study, key).empty()) facts += (facts.empty() ? "" : " · ") + made(study, key);
  }
  if (!made(study, "onpa").empty()) {
    facts += (facts.empty() ? "" : " · ") + std::string("onpa ") + made(study, "onpa");
    if (!made(study, "commit").empty()) facts += " (" + made(study, "commit") + ")";
  }
  return "<header><h1>Waveform or features?</h1>\n" +
         paragraph(
             "Predicting a track's popularity from its audio (PaSST) and from its table of "
             "features (Dense). " +
                 facts,
             "under") +
         "</header>\n";
}

std::string answer_part(const Study& study) {
  std::string out = "<div class=\"answer\">";
  for (const std::string& sentence : answer(study)) out += paragraph(sentence);
  out += "</div>\n";
  for (const std::string& caution : cautions(study)) out += paragraph(caution, "caution");
  return out + key_figures(study);
}

std::string results_part(const Study& study) {
  std::string out =
      paragraph("Errors are in the units of the target, " + study.unit() + ": 0.01 is " +
                    significant(study.points(0.01), 3) +
                    (study.points(0.01) == 1 ? " popularity point" : " popularity points") +
                    ". Intervals hold " + study.level() + " and come from " +
                    (std::isfinite(study.draws) ? grouped(study.draws) + " " : "") +
                    "bootstrap draws of the test tracks.",
                "note") +
      table_with_files(results_table(study));
  if (!study.floors.empty()) {
    out += paragraph(
        "The floor is the error of the best prediction that is possible, known because "
        "these tracks were made.",
        "note");
  }
  return out;
}

std::string changes_part(const Study& study) {
  std::string out = paragraph(
      "Natural: over the test tracks as they are. Bin-balanced: the mean over popularity "
      "bins, so that rare popularities count as much as common ones.",
      "note");
  std::string items;
  for (const std::string& text : changes(study)) items += "<li>" + escape(text) + "</li>\n";
  if (items.empty()) return "";
  return out + "<ul class=\"plain\">\n" + items + "</ul>\n" +
         table_with_files(variants_table(study));
}

// What the models of genres start from.
std::string genres_start(const Study& study) {
  if (study.from == "all-data") return "models that started from those of all data";
  if (study.init_from.empty()) return "models of its own, trained from scratch";
  return "models of its own, PaSST's started from " + study.init_from;
}

std::string genres_part(const Study& study) {
  std::string how =
      "Each genre has " + genres_start(study) +
      ". Rank 1 is the smallest error of a model, all data takes part. The difference "
      "is that of the mean absolute errors on the same tracks, p is of Wilcoxon's "
      "signed-rank test of the paired errors.";
  if (study.scopes.size() < 2) return table_with_files(genres_table(study));
  return genres_plots(study) + paragraph(how, "note") + table_with_files(genres_table(study));
}

std::string cost_part(const Study& study) {
  const Cell* passt = study.all().done("passt");
  const Cell* dense = study.all().done("dense");
  std::string out = table_with_files(cost_table(study));
  if (passt != nullptr && dense != nullptr) {
    const double ratio = passt->hours_per_epoch / dense->hours_per_epoch;
    if (std::isfinite(ratio)) {
      out +=
          paragraph("An epoch of PaSST takes " + (ratio < 10 ? fixed(ratio, 1) : grouped(ratio)) +
                    " times as long as one of Dense here.");
    }
  }
  return out + paragraph(
                   "The study that this repeats gives, for its own data: PaSST on 24 A100 "
                   "GPUs 2.350 hours an epoch, Dense on one A100 0.003 hours (10.8 s), "
                   "783 times less. These two figures are quoted, not measured here.",
                   "note");
}

std::string tracks_part(const Study& study) {
  return table_with_files(worst_table(study)) + table_with_files(slowest_table(study));
}

std::string settings_part(const Study& study) {
  std::string out;
  for (const auto& [model, toml] : study.configs) {
    out += folded_text("Settings of " + model_name(model) + " (TOML)", toml);
  }
  if (!study.card.is_null()) {
    out += folded_text(
        "Data card (JSON)",
        study.card.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }
  return out;
}

std::string card_hash(const Study& study, const char* part, const char* key) {
  if (!study.card.is_object() || !study.card.contains(part)) return "";
  const auto& object = study.card[part];
  return object.is_object() && object.contains(key) && object[key].is_string()
             ? object[key].get<std::string>()
             : "";
}

// A command as a line for a shell; nothing of none.
std::string shell_line(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + quote_for_shell(word);
  return line.empty() ? line : line + "\n";
}

// That made the data set, if its card says so.
std::vector<std::string> prepare_command(const Study& study) {
  std::vector<std::string> words;
  if (!study.card.is_object() || !study.card.contains("options")) return words;
  const auto& options = study.card["options"];
  if (!options.is_object() || !options.contains("command")) return words;
  for (const auto& word : options["command"]) {
    if (word.is_string()) words.push_back(word.get<std::string>());
  }
  return words;
}

std::string reproduce_part(const Study& study) {
  std::string commands;
  if (!made(study, "commit").empty()) {
    commands += "git checkout " + quote_for_shell(made(study, "commit")) + " && ./dev build\n";
  }
  commands += shell_line(prepare_command(study)) + shell_line(study.command);
  std::string csv = card_hash(study, "hashes", "csv_xxh3");
  if (csv.empty()) csv = card_hash(study, "source", "csv_xxh3");
  const std::vector<std::pair<std::string, std::string>> facts = {
      {"seed", std::isfinite(study.seed) ? fixed(study.seed, 0) : ""},
      {"smallest genre",
       std::isfinite(study.min_tracks) ? counted(study.min_tracks, "track", "tracks") : ""},
      {"data set", study.data_folder},
      {"hash of its tracks", study.data_hash},
      {"source table", card_hash(study, "source", "csv")},
      {"hash of the source table (xxh3)", csv},
      {"onpa", made(study, "onpa")},
      {"commit", made(study, "commit")},
      {"made", made(study, "utc")},
      {"device", made(study, "device")},
      {"processor", made(study, "cpu")},
      {"cores", made(study, "cores")}};
  std::string list;
  for (const auto& [name, value] : facts) {
    if (!value.empty()) list += "<dt>" + escape(name) + "</dt><dd>" + escape(value) + "</dd>\n";
  }
  return (commands.empty() ? "" : "<pre class=\"wrap\">" + escape(commands) + "</pre>\n") +
         "<dl class=\"facts\">\n" + list + "</dl>\n";
}

std::string training_part(const Study& study) {
  const std::string start = study.init_from.empty()
                                ? ""
                                : paragraph("PaSST started from the weights of " + study.init_from +
                                                ", Dense from scratch.",
                                            "note");
  return start + curves_plots(study);
}

struct Part {
  std::string id, title, content;
};

std::vector<Part> parts(const Study& study) {
  return {
      {"results", "All data", results_part(study)},
      {"changes", "What undersampling and variants changed", changes_part(study)},
      {"genres", "Genre by genre", genres_part(study)},
      {"errors", "Where the models are wrong",
       errors_plots(study) +
           folded("The numbers by true popularity", table_with_files(error_bins_table(study)))},
      {"popularity", "Popularity of the tracks",
       popularity_plots(study) + table_with_files(counts_table(study))},
      {"training", "Training", training_part(study)},
      {"tracks", "Worst and slowest tracks", tracks_part(study)},
      {"cost", "Cost", cost_part(study)},
      {"settings", "Settings and data card", settings_part(study)},
      {"again", "How to repeat it", reproduce_part(study)},
  };
}

}  // namespace

std::vector<Table> report_tables(const Study& study) {
  std::vector<Table> out;
  for (Table& table :
       std::vector<Table>{results_table(study), variants_table(study), genres_table(study),
                          error_bins_table(study), worst_table(study), slowest_table(study),
                          cost_table(study), counts_table(study), failed_table(study)}) {
    if (!table.rows.empty()) out.push_back(std::move(table));
  }
  return out;
}

std::string report_page(const Study& study) {
  std::string links, body;
  for (const Part& part : parts(study)) {
    if (part.content.empty()) continue;
    links += "<a href=\"#" + part.id + "\">" + escape(part.title) + "</a>\n";
    body += section(part.id, part.title, part.content);
  }
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
         "'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
         "<link rel=\"icon\" href=\"data:,\">\n"
         "<title>Waveform or features?</title>\n<style>" +
         std::string(kStyle) + "</style>\n</head>\n<body>\n" + head(study) + "<main>\n" +
         failed_part(study) + answer_part(study) + "<nav aria-label=\"Parts of this page\">\n" +
         links + "</nav>\n" + body +
         "</main>\n<footer>Made by onpa report from study.json; this page "
         "loads nothing from elsewhere.</footer>\n<script>" +
         kScript + "</script>\n</body>\n</html>\n";
}

}  // namespace onpa::apps::report
