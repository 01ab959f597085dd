// Predictions of a trained run on a data set's test split: what the study's tables are made of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/support/compute_device.h"
#include "data/dataset.h"

namespace onpa::apps {

struct TrackPrediction {
  std::int64_t row = 0;  // index into DataSet::tracks
  float target = 0;      // of the track
  float prediction = 0;  // in the units of target
};

struct ModelResult {
  std::string model;           // "passt" or "dense"
  double hours_per_epoch = 0;  // measured training time of one epoch, decoding included
  std::vector<TrackPrediction> predictions;  // ascending by row
};

/// Predicts the test split with the newest checkpoint of `run` (its averaged weights if it kept
/// any). Throws Error: kInputMissing without a run, kBadCheckpoint without a valid checkpoint,
/// kConfig when the data set lacks a feature that the run was trained on, kDevice without the GPU
/// that is asked for.
ModelResult evaluate_run(const std::filesystem::path& run, const data::DataSet& data,
                         std::int64_t batch_size = 16, const ComputeChoice& compute = {});

}  // namespace onpa::apps
