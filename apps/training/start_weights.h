// Where a run starts that does not start from nothing: `--init-from`.
#pragma once

#include "apps/training/ranks.h"
#include "apps/training/train_task.h"
#include "apps/training/trainer.h"
#include "tensor/flat_params.h"

namespace onpa::apps {

/// `options` as they are, unless they name weights to start a PaSST from. Then the settings of its
/// architecture, front end and clip length are those of the weights wherever nobody chose others,
/// and `start` holds the weights, fitted to it (nn/adapt.h), on rank 0. What may be chosen against
/// the weights: model.table_t, and model.depth as nn::kept_blocks() has it; a run has one output,
/// so another head is replaced. A run that has a checkpoint goes on: the settings are its own, and
/// the weights are not read.
///
/// A collective; only rank 0 needs to reach the files. Throws Error, on all ranks: kConfig naming
/// the setting, its value, the weights' one and what to do; what nn::read_weights() throws.
TrainOptions with_start(const TrainOptions& options, const data::DataSet& data, Ranks& ranks);

/// Copies the weights that `options` name into the task's module, which is initialised and of which
/// `params` was made. Throws Error: kConfig if they are another kind of model, or a Dense's of
/// other features; kBadCheckpoint.
void load_start(const TrainOptions& options, TrainTask& task, const FlatParams& params);

}  // namespace onpa::apps
