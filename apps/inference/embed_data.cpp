#include "apps/inference/embed_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "apps/inference/inference.h"
#include "apps/support/config.h"
#include "apps/support/log.h"
#include "apps/training/train_task.h"
#include "data/file.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

constexpr int kReports = 10;  // of progress

std::vector<std::string> feature_names(std::size_t width) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < width; ++i) out.push_back(fmt::format("f{:03}", i));
  return out;
}

// All samples at once.
SampleSource source_of(std::span<const float> wave) {
  return [wave, done = false](std::vector<float>& out) mutable {
    if (std::exchange(done, true)) return false;
    out.insert(out.end(), wave.begin(), wave.end());
    return true;
  };
}

bool is_embedded(const std::filesystem::path& card) {
  std::error_code missing;
  if (!std::filesystem::exists(card, missing)) return false;
  const auto json = nlohmann::json::parse(data::read_file(card), nullptr, false);
  return json.is_object() && json.contains("embedded");
}

// What would keep `out` from becoming a data set of so many numbers, found before the work. Only
// what embed_folder() has written is written over.
void claim_folder(const std::filesystem::path& out, std::uint64_t numbers) {
  constexpr std::uint64_t kNumberBytes = 8;  // in tracks.csv, at least
  const std::filesystem::path tracks = out / "tracks.csv", card = out / "card.json";
  std::error_code missing;
  for (const std::filesystem::path& file : {card, tracks}) {
    if (!std::filesystem::exists(file, missing) || is_embedded(card)) continue;
    fail(ExitCode::kConfig, out.string(), ": holds ", file.filename().string(),
         ", which is not of a data set that embed wrote; name another folder, or remove it");
  }
  const io::FaultScope faults(io::FileKind::kData);
  io::make_folders(out);
  io::require_room(tracks, numbers * kNumberBytes);
}

}  // namespace

data::DataSet embed_data(const data::DataSet& data, const EmbedClip& embed,
                         const data::LoaderOptions& options, std::vector<data::BadTrack>& bad) {
  std::vector<std::int64_t> all(data.tracks.size());
  std::iota(all.begin(), all.end(), std::int64_t{0});
  const std::vector<std::int64_t> rows = rows_with_audio(data, all);
  data::LoaderOptions one_by_one = options;
  one_by_one.batch_size = 1;
  one_by_one.prefetch_batches *= static_cast<int>(options.batch_size);
  one_by_one.train = one_by_one.shuffle = one_by_one.drop_last = false;
  one_by_one.max_bad_fraction = 1;
  data::DataSet out;
  out.audio_root = data.audio_root;
  out.target_map = data.target_map;
  out.card = data.card;
  if (!rows.empty()) {
    data::AudioLoader loader(data, rows, one_by_one);
    loader.start_epoch(0);
    const std::size_t every = std::max<std::size_t>(1, rows.size() / kReports);
    for (data::AudioBatch batch; loader.next(batch);) {
      data::Track track = data.tracks[static_cast<std::size_t>(batch.rows.front())];
      track.features = embed(batch.wave.span<float>(), track.audio);
      out.tracks.push_back(std::move(track));
      if (out.tracks.size() % every == 0) {
        spdlog::info("{} of {} tracks", out.tracks.size(), rows.size());
      }
    }
    bad = loader.bad_tracks();
    warn_of_loader(loader);
  }
  if (out.tracks.empty()) {
    fail(ExitCode::kBadData, "none of ", data.tracks.size(), " tracks has audio that can be read",
         bad.empty() ? "" : "; the first: " + bad.front().reason);
  }
  out.feature_names = feature_names(out.tracks.front().features.size());
  return out;
}

std::int64_t embed_folder(Predictor& model, const std::filesystem::path& data,
                          const std::filesystem::path& out, const WindowOptions& windows,
                          EmbeddingMode mode) {
  std::error_code missing;
  if (std::filesystem::equivalent(data, out, missing)) {
    fail(ExitCode::kUsage, out.string(), ": is the data set itself; name another folder");
  }
  const data::DataSet tracks = data::DataSet::load(data);
  data::LoaderOptions options = loader_options(parse_toml("passt", "", "defaults"));
  options.seconds = 0;
  ClipModel clips(*model.passt(), model.card(), windows);
  claim_folder(out, tracks.tracks.size() * static_cast<std::uint64_t>(clips.width(mode)));
  std::vector<data::BadTrack> bad;
  data::DataSet features = embed_data(
      tracks,
      [&](std::span<const float> wave, const std::string& name) {
        return clips.embedding(clips.scene(source_of(wave), name), mode);
      },
      options, bad);
  const std::size_t left_out = tracks.tracks.size() - features.tracks.size();
  auto card = nlohmann::json::parse(tracks.card);
  card["embedded"] = {{"model", model.source().string()}, {"left_out", left_out}};
  features.card = card.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  features.save(out);
  spdlog::info(
      "{}: {} tracks with {} features; left out {} whose audio is not there or cannot be "
      "read{}",
      out.string(), features.tracks.size(), features.feature_names.size(), left_out,
      bad.empty() ? "" : "; the first: " + bad.front().reason);
  return std::ssize(features.tracks);
}

}  // namespace onpa::apps
