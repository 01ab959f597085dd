// Loading parameters by name.
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

}  // namespace onpa::nn
