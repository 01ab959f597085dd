// Where the samples of a clip come from: a file or standard input, decoded as they are needed.
#pragma once

#include <string>

#include "apps/inference/model_card.h"
#include "apps/inference/windows.h"

namespace onpa::apps {

/// The samples of `input`, a path or "-" for standard input, at the card's rate. Longer audio than
/// `max_seconds` is an error (kBadData); 0: any length. Throws as audio::DecodeStream, here and
/// when it is read.
SampleSource open_clip(const std::string& input, const ModelCard& card, double max_seconds);

}  // namespace onpa::apps
