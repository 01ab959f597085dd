// What the outputs of a classifier are called.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace onpa::apps {

/// The display names of the AudioSet classes in the order of the published models' outputs.
/// Source: AudioSet's class_labels_indices.csv; its ontology is licensed under CC BY 4.0.
const std::vector<std::string>& audioset_classes();

/// Names for a model with that many outputs: those of `file`, one a line, which must be as many
/// (kUsage else); without a file AudioSet's where there are as many outputs as it has classes, else
/// none. Throws Error (kInputMissing).
std::vector<std::string> class_names(std::int64_t outputs, const std::filesystem::path& file = {});

}  // namespace onpa::apps
