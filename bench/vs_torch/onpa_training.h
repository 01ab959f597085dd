// A model with its optimizer, for the rows that train one.
#pragma once

#include <stdexcept>
#include <string>

#include "bench/vs_torch/onpa_rows.h"
#include "nn/load.h"
#include "nn/optim.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"

namespace onpa::vs {

inline io::NamedTensors named_parameters(const nn::Module& module) {
  io::NamedTensors out;
  for (const nn::NamedParameter& p : module.parameters()) out.emplace_back(p.name, p.tensor);
  return out;
}

// The tensors of `in` that are parameters.
inline void load_model(nn::Module& model, const io::SafetensorsFile& in) {
  io::NamedTensors wanted;
  for (const nn::NamedParameter& p : model.parameters()) {
    wanted.emplace_back(p.name, in.find(p.name));
  }
  nn::load_parameters(model, wanted);
}

struct Training {
  explicit Training(nn::Module& model) : params(model.parameter_slots()), optimizer({}, params) {}

  double step(const Tensor& predicted, const Tensor& target, float rate) {
    params.clear_grad();
    const Tensor loss = ops::loss(predicted, target, kernels::LossKind::kMse);
    const double value = loss.item();
    backward(loss);
    params.finish_grad();
    optimizer.step(rate);
    return value;
  }

  Tensor gradient(const std::string& name) const {
    for (const FlatSlot& slot : params.slots()) {
      if (slot.name == name) return params.view(params.grad(), slot);
    }
    throw std::invalid_argument("no parameter " + name);
  }

  FlatParams params;
  nn::Optimizer optimizer;
};

}  // namespace onpa::vs
