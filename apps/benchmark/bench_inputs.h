// Inputs that are made up, for steps that are timed: the same for the same seed.
#pragma once

#include <cstdint>

#include "apps/support/config.h"
#include "apps/training/train_task.h"
#include "data/dataset.h"

namespace onpa::apps {

/// What a task needs in order to be made: train tracks with as many random features as the study's
/// models have (10), and an audio file named that is never read. For a Dense some batches of
/// train.batch_size and train.eval_batch_size at least, else one track.
data::DataSet made_up_data(const Config& config);

/// Batches of `batch_size` clips of noise, each data.seconds long; the waveforms are the same each
/// time. Throws Error (kOutOfMemory).
ClipSource made_up_clips(const Config& config, std::int64_t batch_size);

/// data.seconds or, where it is 0 and clips would be taken whole, what the model's time table
/// covers.
double clip_seconds(const Config& config);

}  // namespace onpa::apps
