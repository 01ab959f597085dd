#include "apps/training/train_rows.h"

#include <xxhash.h>

#include "apps/inference/inference.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

[[noreturn]] void nothing_left(const TrainRows& rows, const Config& config) {
  const char* audio = config.model.kind == "passt" ? " with audio" : "";
  if (rows.evaluated == "validation") {
    const char* part = rows.train.empty() ? "to train on" : "to evaluate on";
    fail(ExitCode::kBadData, "data.validation=", config.data.validation, " leaves no track", audio,
         " ", part, ": ", rows.train.size(), " to train on, ", rows.evaluation.size(), " held out");
  }
  fail(ExitCode::kBadData, "the data set has no train track", audio,
       *audio != '\0' ? "; give prepare --audio" : "");
}

}  // namespace

bool held_out(const std::string& group, const Config& config) {
  if (config.data.validation == 0) return false;
  const std::uint64_t hash = XXH3_64bits(group.data(), group.size());
  Philox draws({.seed = static_cast<std::uint64_t>(config.train.seed),
                .stream = kStreamValidation,
                .step = hash >> 32,
                .sample = hash & 0xFFFFFFFFu});
  return draws.uniform() < config.data.validation;
}

TrainRows train_rows(const data::DataSet& data, const Config& config) {
  const bool validation = config.data.validation > 0;
  TrainRows rows;
  rows.evaluated = validation ? "validation" : "test";
  if (!validation) rows.evaluation = data.indices(data::Split::kTest);
  for (std::int64_t i = 0; i < std::ssize(data.tracks); ++i) {
    const data::Track& track = data.tracks[static_cast<std::size_t>(i)];
    if (track.split != data::Split::kTrain) continue;
    if (held_out(track.group_key(), config)) {
      rows.evaluation.push_back(i);
    } else if (track.kept || !config.data.undersampled) {
      rows.train.push_back(i);
    }
  }
  if (config.model.kind == "passt") {
    rows.train = rows_with_audio(data, rows.train);
    rows.evaluation = rows_with_audio(data, rows.evaluation);
  }
  if (rows.train.empty() || (validation && rows.evaluation.empty())) nothing_left(rows, config);
  return rows;
}

std::optional<data::DataSet> with_permuted_targets(const data::DataSet& data,
                                                   const std::vector<std::int64_t>& rows,
                                                   const Config& config) {
  if (!config.data.permute_targets) return std::nullopt;
  std::vector<std::int64_t> from = rows;
  Philox({.seed = static_cast<std::uint64_t>(config.train.seed), .stream = kStreamPermute})
      .shuffle(from);
  data::DataSet out = data;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const data::Track& source = data.tracks[static_cast<std::size_t>(from[i])];
    data::Track& track = out.tracks[static_cast<std::size_t>(rows[i])];
    track.target = source.target;
    track.popularity = source.popularity;
  }
  return out;
}

}  // namespace onpa::apps
