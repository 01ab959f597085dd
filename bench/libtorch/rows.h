// The rows of the comparison with PyTorch, on LibTorch's side. What each kind of row does is
// described where onpa does it (bench/vs_torch/onpa_*.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "bench/vs_torch/protocol.h"

namespace onpa::vs {

using Inputs = std::map<std::string, at::Tensor>;
using MakeWork = std::function<Work(const Job&, Inputs inputs)>;

/// The tensors of a safetensors file of float32.
Inputs read_inputs(const std::filesystem::path& path);
void add(Outputs& outputs, const std::string& name, const at::Tensor& x);

/// A leaf with a gradient of the same values.
at::Tensor leaf(const at::Tensor& values);

/// AdamW with PyTorch's fused kernel, which its C++ optimizer does not use. Moments start at 0.
class FusedAdamW {
 public:
  FusedAdamW(std::vector<at::Tensor> parameters, double rate, double weight_decay);
  void step();
  void clear_gradients();
  const std::vector<at::Tensor>& parameters() const { return parameters_; }
  std::vector<at::Tensor>& first_moments() { return first_; }
  std::vector<at::Tensor>& second_moments() { return second_; }

 private:
  std::vector<at::Tensor> parameters_, first_, second_, steps_;
  double rate_, weight_decay_;
};

std::map<std::string, MakeWork> kernel_kinds();
std::map<std::string, MakeWork> mel_kinds();
std::map<std::string, MakeWork> model_kinds();
std::map<std::string, MakeWork> file_kinds();

/// passt-s on `mel` (1, 128, T), as nn::Passt: kept patches only, the last block for the first two
/// tokens only. Parameters by their published names.
struct PasstResult {
  at::Tensor logits, features;
};
PasstResult passt_forward(const Inputs& parameters, const at::Tensor& mel, const at::Tensor& keep);

}  // namespace onpa::vs
