// A data set whose features are what an audio model makes of its tracks, so that a Dense can learn
// from them: the audio model runs once, not once an epoch.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "apps/inference/predictor.h"
#include "apps/inference/windows.h"
#include "data/dataset.h"
#include "data/loader.h"

namespace onpa::apps {

/// The features of a waveform; `name` is for messages.
using EmbedClip =
    std::function<std::vector<float>(std::span<const float> wave, const std::string& name)>;

/// The tracks of `data` whose audio can be read, as they are but for their features, which are
/// embed(wave) under the names f000, f001, ... `options` gives clip length, workers and cache. The
/// others are appended to `bad`; those that name no audio are left out too. Throws Error (kBadData)
/// if none is left.
data::DataSet embed_data(const data::DataSet& data, const EmbedClip& embed,
                         const data::LoaderOptions& options, std::vector<data::BadTrack>& bad);

/// embed_data() of the data set in a folder, by an audio model, into another folder, where it is a
/// data set too. Clips are heard whole, as ClipModel::scene() does. Returns how many tracks have
/// features. Throws Error as embed_data(), DataSet::load() and save(); kUsage for one folder as
/// both; before the work kCannotCreate or kIo for a folder that cannot be made or has no room, and
/// kConfig for one with a data set that this did not write.
std::int64_t embed_folder(Predictor& model, const std::filesystem::path& data,
                          const std::filesystem::path& out, const WindowOptions& windows = {},
                          EmbeddingMode mode = EmbeddingMode::kFeatures);

}  // namespace onpa::apps
