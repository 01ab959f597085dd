// Loading parameters by name, and what is to be known of tensors before.
#pragma once

#include <string>
#include <vector>

#include "nn/module.h"
#include "tensor/io/safetensors.h"

namespace onpa::nn {

/// What a load left untouched.
struct LoadReport {
  std::vector<std::string> missing;     // parameters of the module that no tensor is named after
  std::vector<std::string> unexpected;  // tensors that the module has no parameter for
};

/// Copies each tensor into the parameter of its name (f64 is rounded to f32). Everything is checked
/// before the first parameter changes. Throws Error (kBadCheckpoint) naming the tensor and both
/// shapes where they differ, a name that occurs twice, and, if `strict`, all missing and unexpected
/// names.
LoadReport load_parameters(Module& module, const io::NamedTensors& tensors, bool strict = true);

/// Throws what a strict load_parameters() of these would throw, and changes nothing.
void check_parameters(const Module& module, const io::NamedTensors& tensors);

/// Name of the first tensor of floats with NaN or infinity, "" if there is none.
std::string first_not_finite(const io::NamedTensors& tensors);

}  // namespace onpa::nn
