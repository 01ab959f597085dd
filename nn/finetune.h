// Which parameters of a PaSST learn in fine-tuning, and how fast.
#pragma once

#include <string>
#include <vector>

#include "nn/module.h"
#include "nn/passt.h"

namespace onpa::nn {

/// What the learning rate of a parameter is multiplied by: decay^(depth - i) in block i,
/// decay^(depth + 1) in what makes tokens of a spectrogram (patch embedding, tokens, tables),
/// `head` in head.*, 1 in the last norm. Source: arXiv:2106.08254 (BEiT), as timm counts layers.
double layer_rate(const std::string& name, std::int64_t depth, double decay, double head = 1);

/// Parameters that `what` names, apart by commas, are to require no gradient: "none"; "embed",
/// what makes tokens of a spectrogram; "body", everything but the head; or the beginning of names
/// up to a dot, such as "blocks.0". Returns how many values are frozen. Throws Error (kConfig)
/// for a beginning that no parameter has, or if nothing is left to learn. To be called before
/// FlatParams takes the parameters over.
std::int64_t freeze(Passt& model, const std::string& what);

}  // namespace onpa::nn
