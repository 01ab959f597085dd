#include "nn/load.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "kernels/optim.h"
#include "tensor/dispatch.h"

namespace onpa::nn {
namespace {

constexpr std::size_t kNamesShown = 8;

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size() && i < kNamesShown; ++i) {
    out += (i ? ", " : "") + names[i];
  }
  if (names.size() > kNamesShown) {
    out += " and " + std::to_string(names.size() - kNamesShown) + " more";
  }
  return out.empty() ? "none" : out;
}

bool is_finite(const Tensor& tensor) {
  if (tensor.dtype() == DType::kF64) {
    const auto values = tensor.span<double>();
    return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
  }
  if (tensor.dtype() != DType::kF32) return true;
  double sum = 0;
  on_device(tensor.device(), [&](auto dev) {
    kernels::sum_of_squares(dev, {.x = tensor.data<float>(), .out = &sum, .n = tensor.numel()});
  });
  return std::isfinite(sum);
}

using Copies = std::vector<std::pair<Tensor, Tensor>>;  // destination, source

// What load_parameters() would copy, checked.
LoadReport match(const Module& module, const io::NamedTensors& tensors, bool strict,
                 Copies& copies) {
  std::map<std::string, Tensor> by_name;
  for (const auto& [name, tensor] : tensors) {
    if (!by_name.emplace(name, tensor).second) {
      fail(ExitCode::kBadCheckpoint, "load: tensor ", name, " occurs twice");
    }
  }
  LoadReport report;
  for (const NamedParameter& parameter : module.parameters()) {
    const auto found = by_name.find(parameter.name);
    if (found == by_name.end()) {
      report.missing.push_back(parameter.name);
      continue;
    }
    const Tensor source = found->second;
    by_name.erase(found);
    if (source.shape() != parameter.tensor.shape()) {
      fail(ExitCode::kBadCheckpoint, "load: tensor ", parameter.name, " has shape ", source.shape(),
           ", want ", parameter.tensor.shape());
    }
    if (source.dtype() != DType::kF32 && source.dtype() != DType::kF64) {
      fail(ExitCode::kBadCheckpoint, "load: tensor ", parameter.name, " is ",
           name_of(source.dtype()), ", want floating point");
    }
    copies.emplace_back(parameter.tensor, source);
  }
  for (const auto& [name, tensor] : by_name) report.unexpected.push_back(name);
  if (strict && !(report.missing.empty() && report.unexpected.empty())) {
    fail(ExitCode::kBadCheckpoint, "load: missing ", listed(report.missing), "; unexpected ",
         listed(report.unexpected));
  }
  return report;
}

}  // namespace

LoadReport load_parameters(Module& module, const io::NamedTensors& tensors, bool strict) {
  Copies copies;
  const LoadReport report = match(module, tensors, strict, copies);
  for (const auto& [destination, source] : copies) {
    destination.copy_from(source.dtype() == DType::kF32 ? source : source.to(DType::kF32));
  }
  return report;
}

void check_parameters(const Module& module, const io::NamedTensors& tensors) {
  Copies copies;
  match(module, tensors, true, copies);
}

std::string first_not_finite(const io::NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (!is_finite(tensor)) return name;
  }
  return {};
}

}  // namespace onpa::nn
