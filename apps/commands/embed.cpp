#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "apps/commands/commands.h"
#include "apps/inference/clip_source.h"
#include "apps/inference/embed_data.h"
#include "apps/inference/predictor.h"
#include "apps/inference/windows.h"
#include "apps/support/inputs.h"
#include "apps/support/log.h"
#include "apps/support/outputs.h"
#include "data/table.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"
#include "tensor/io/npy.h"

namespace onpa::apps {
namespace {

EmbeddingMode mode_of(const std::string& name) {
  return name == "all"      ? EmbeddingMode::kAll
         : name == "logits" ? EmbeddingMode::kLogits
                            : EmbeddingMode::kFeatures;
}

std::int64_t write_scenes(ClipModel& model, const ModelCard& card, const EmbedArgs& args,
                          const std::vector<std::string>& inputs) {
  const EmbeddingMode mode = mode_of(args.mode);
  const std::int64_t width = model.width(mode);
  {
    const io::FaultScope faults(io::FileKind::kNpy);  // now, rather than after hours of work
    io::require_room(args.out, inputs.size() * static_cast<std::size_t>(width) * sizeof(float));
  }
  return io::write_npy_rows(args.out, width, [&](const io::NpyRowSink& row) {
    for (const std::string& input : inputs) {
      const auto output = model.scene(open_clip(input, card, args.clips.max_seconds), input);
      row(model.embedding(output, mode));
    }
  });
}

// Of rows' times: beside them, in a CSV of the same name.
std::filesystem::path times_of(const std::string& out) {
  return std::filesystem::path(out).replace_extension(".csv");
}

std::int64_t write_timestamps(ClipModel& model, const ModelCard& card, const EmbedArgs& args,
                              const std::vector<std::string>& inputs) {
  const EmbeddingMode mode = mode_of(args.mode);
  const auto levels = timestamp_levels(args.layout, card);
  const double hop_seconds = args.clips.hop_seconds > 0 ? args.clips.hop_seconds : 0.05;
  const auto hop = static_cast<std::int64_t>(hop_seconds * card.mel.rate_hz + 0.5);
  if (hop < 1) fail(ExitCode::kUsage, "--every: ", hop_seconds, " s is less than a sample");
  const std::filesystem::path times = times_of(args.out);
  const io::FaultScope faults(io::FileKind::kNpy);
  for (const std::filesystem::path& file : {std::filesystem::path(args.out), times}) {
    io::require_room(file, 1);
  }
  std::int64_t rows = 0;
  std::optional<io::StagedFile> embeddings;
  io::StagedFile beside(times, [&](io::FileWriter& csv) {
    csv.write(data::csv_line({"input", "ms"}));
    const auto fill = [&](const io::NpyRowSink& row) {
      for (const std::string& input : inputs) {
        const SampleSource source = open_clip(input, card, args.clips.max_seconds);
        model.timestamps(source, input, levels, hop, mode,
                         [&](double ms, std::span<const float> embedding) {
                           row(embedding);
                           csv.write(data::csv_line({input, fmt::format("{:.12g}", ms)}));
                         });
      }
    };
    embeddings.emplace(io::stage_npy_rows(args.out, model.width(mode, levels), fill, rows));
  });
  embeddings->commit();
  beside.commit();
  return rows;
}

}  // namespace

// Rows must match the inputs one to one, so a bad input ends the verb.
int run_embed(const EmbedArgs& args) {
  Predictor model(args.model, args.weights);
  if (!model.passt()) fail(ExitCode::kUsage, args.model, ": a dense model has no audio features");
  if (args.layout != "base" && !args.timestamps) {
    fail(ExitCode::kUsage, "--layout ", args.layout,
         " is one of timestamp embeddings: --timestamps");
  }
  if (args.timestamps && args.clips.window_seconds > 0) {
    fail(ExitCode::kUsage, "--window is that of long clips; timestamp embeddings have --layout");
  }
  if (args.timestamps) {
    require_distinct({{"--out", args.out}, {"the times beside it", times_of(args.out).string()}});
  }
  if (!args.data.empty() && args.clips.max_seconds > 0) {
    fail(ExitCode::kUsage, "--max-seconds is for files; tracks of a data set are heard whole");
  }
  if (args.timestamps && !args.data.empty()) {
    fail(ExitCode::kUsage, "--timestamps is for files: a track of a data set has one row");
  }
  model.compute_on(args.compute);
  if (!args.data.empty()) {
    embed_folder(model, args.data, args.out, window_options(args.clips), mode_of(args.mode));
    return 0;
  }
  const std::vector<std::string> inputs = expand_inputs(args.clips.inputs, args.clips.list);
  keep_inputs({{"--out", args.out}}, inputs);
  WindowOptions options = window_options(args.clips);
  if (args.timestamps) options.hop_seconds = 0;
  ClipModel clips(*model.passt(), model.card(), options);
  const std::int64_t rows = args.timestamps ? write_timestamps(clips, model.card(), args, inputs)
                                            : write_scenes(clips, model.card(), args, inputs);
  const EmbeddingMode mode = mode_of(args.mode);
  const std::int64_t width = args.timestamps
                                 ? clips.width(mode, timestamp_levels(args.layout, model.card()))
                                 : clips.width(mode);
  spdlog::info("{}: float32 ({}, {})", args.out, rows, width);
  return 0;
}

}  // namespace onpa::apps
