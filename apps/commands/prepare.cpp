#include "apps/study/prepare.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/commands/commands.h"
#include "apps/support/outputs.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

using Json = nlohmann::ordered_json;

void show(const std::string& what, const Json& count) {
  fmt::print("{:>10}  {}\n", count.get<std::int64_t>(), what);
}

void show_above_zero(const std::string& what, const Json& count) {
  if (count.get<std::int64_t>() > 0) show(what, count);
}

void show_columns(const Json& card) {
  std::string columns;
  for (const auto& [role, found] : card["roles"].items()) {
    const std::string header = found["column"].get<std::string>();
    columns += columns.empty() ? "" : ", ";
    columns += header == role ? role : role + " = " + header;
  }
  fmt::print("layout: {}\ncolumns: {}\n", card["layout"].get<std::string>(), columns);
}

void show_counts(const Json& card) {
  const Json& rows = card["rows"];
  const Json& tracks = card["tracks"];
  show("rows read", rows["read"]);
  for (const auto& [reason, n] : rows["dropped_by_reason"].items()) {
    show("rows dropped: " + reason, n);
  }
  show("rows joined to a track with the same id", rows["joined"]);
  show_above_zero("of them with other numbers (the first row counts)",
                  rows["joined_with_other_numbers"]);
  for (const auto& [reason, n] : tracks["dropped_by_reason"].items()) {
    show_above_zero("tracks dropped: " + reason, n);
  }
  show_above_zero("ids with several audio files (the first by path counts)",
                  card["audio"]["several"]);
  show_above_zero("audio files of no track", card["audio"]["files_of_no_track"]);
  if (!card["genres_dropped"].empty()) {
    fmt::print("{:>10}  genres dropped: too few tracks\n", card["genres_dropped"].size());
  }
  show("tracks used", tracks["used"]);
  show("train tracks", tracks["train"]);
  const Json& cap = card["undersampling"]["cap"];
  if (card["undersampling"]["rule"] != "none") {
    show(fmt::format("train tracks kept by undersampling (at most {} a bin)",
                     cap.get<std::int64_t>()),
         tracks["train_kept"]);
  }
  show("test tracks", tracks["test"]);
}

void show_split(const Json& split) {
  fmt::print("split: {}", split["kind"].get<std::string>());
  if (split.contains("column")) fmt::print(", column {}", split["column"].get<std::string>());
  if (split.contains("groups")) {
    fmt::print(", {} groups, the largest with {:.1f} % of the tracks",
               split["groups"].get<std::int64_t>(),
               100 * split["largest_group_share"].get<double>());
  }
  fmt::print("\n");
}

}  // namespace

int run_prepare(const PrepareArgs& args) {
  keep_inputs({{"--out", args.out + "/tracks.csv"}, {"--out", args.out + "/card.json"}},
              {args.csv});
  const data::DataSet data = prepare_data(args);
  data.save(args.out);
  const Json card = Json::parse(data.card);
  show_columns(card);
  show_counts(card);
  for (const auto& [column, n] : card["out_of_range"].items()) {
    show("cells out of range: " + column, n);
  }
  show_split(card["split"]);
  std::string names;
  for (const std::string& name : data.feature_names) names += (names.empty() ? "" : ", ") + name;
  fmt::print("features: {}\n", names);
  for (const Json& warning : card["warnings"]) {
    fmt::print("warning: {}\n", warning.get<std::string>());
  }
  fmt::print("wrote {}\n", args.out);
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace onpa::apps
