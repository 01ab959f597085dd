// Ranks that are to train one model have to be told the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/training/ranks.h"
#include "apps/training/trainer.h"
#include "data/dataset.h"

namespace onpa::apps {

/// A collective. Throws Error (kConfig), on all ranks, if settings, options, program (of ranks that
/// are processes) or data set are not the same everywhere; it names what differs, for settings the
/// keys, and the ranks that differ from most.
void check_same_job(const Ranks& ranks, const TrainOptions& options, const data::DataSet& data);

/// Ranks whose value is not the one that most have; that of rank 0 if as many have another.
std::vector<int> odd_ranks(const std::vector<std::uint64_t>& values);
/// xxh3-64 of the bytes of a tensor, on any device.
std::uint64_t hash_of(const Tensor& tensor);
/// "rank 3" or "ranks 1, 3".
std::string name_ranks(const std::vector<int>& ranks);

}  // namespace onpa::apps
