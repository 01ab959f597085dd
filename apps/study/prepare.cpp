#include "apps/study/prepare.h"

#include <algorithm>

#include "apps/study/prepare_parts.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

void check_options(const PrepareArgs& args) {
  if (!(args.train_fraction > 0 && args.train_fraction < 1)) {
    fail(ExitCode::kConfig, "train fraction: got ", args.train_fraction,
         ", want between 0 and 1, both excluded");
  }
  if (!(args.bin_width > 0 && args.bin_width <= 100)) {
    fail(ExitCode::kConfig, "bin width: got ", args.bin_width, ", want above 0 up to 100");
  }
  if (args.target != "fixed" && args.target != "minmax") {
    fail(ExitCode::kConfig, "target: got \"", args.target, "\", want fixed or minmax");
  }
  if (args.min_genre < 0) {
    fail(ExitCode::kConfig, "min genre: got ", args.min_genre, ", want 0 or more tracks");
  }
}

// "minmax" looks at the tracks that models are trained on, and at no other.
data::TargetMap target_map(const PrepareArgs& args, const data::DataSet& data) {
  data::TargetMap map;
  if (args.target == "fixed") return map;
  const auto train = data.indices(data::Split::kTrain);
  const auto popularity = [&](std::int64_t row) {
    return data.tracks[static_cast<std::size_t>(row)].popularity;
  };
  const auto [least, most] = std::ranges::minmax(train, {}, popularity);
  map = {.low = popularity(least), .high = popularity(most)};
  if (map.low == map.high) {
    fail(ExitCode::kBadData, args.csv, ": all train tracks have popularity ", map.low,
         ", which --target minmax cannot scale");
  }
  return map;
}

std::string all_reasons(const Counts& counts) {
  std::string text;
  for (const auto* reasons : {&counts.dropped_rows, &counts.dropped_tracks}) {
    for (const auto& [reason, n] : *reasons) {
      if (n > 0) text += (text.empty() ? "" : ", ") + std::to_string(n) + " " + reason;
    }
  }
  return text.empty() ? "the table has no rows" : text;
}

}  // namespace

data::DataSet prepare_data(const PrepareArgs& args) {
  check_options(args);
  const SplitRule split = parse_split(args.split);
  data::UndersampleRule rule = data::parse_undersample(args.undersample);
  rule.bin_width = args.bin_width;
  data::DataSet data;
  data.feature_names = feature_names(args.features);
  data::CsvReader table(args.csv);
  const Roles roles = find_roles(table, data.feature_names, args, split);
  Counts counts;
  RowReader reader(table, roles, data.feature_names, split, counts);
  data.tracks = reader.read_all();
  if (!args.audio.empty()) {
    data.audio_root = args.audio;
    match_audio(data.tracks, args.audio, reader.repeats(), counts);
  }
  filter_tracks(data.tracks, args, counts);
  if (data.tracks.empty()) {
    fail(ExitCode::kBadData, args.csv, ": no track is left: ", all_reasons(counts));
  }
  const SplitReport report = split_tracks(data.tracks, args, split);
  const std::int64_t cap = data::undersample(data.tracks, rule, args.seed);
  if (data.indices(data::Split::kTrain).empty() || data.indices(data::Split::kTest).empty()) {
    fail(ExitCode::kBadData, args.csv, ": ", data.tracks.size(),
         " tracks are too few for a train and a test split");
  }
  data.map_targets(target_map(args, data));
  data.card = make_card(data, {args, split, roles, table, counts, report, cap});
  return data;
}

}  // namespace onpa::apps
