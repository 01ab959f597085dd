#include "nn/module.h"

namespace onpa::nn {

Tensor& Module::add_parameter(const std::string& name, const Shape& shape) {
  auto tensor = std::make_unique<Tensor>(Tensor::empty(shape));
  tensor->set_requires_grad();
  parameters_.emplace_back(name, std::move(tensor));
  return *parameters_.back().second;
}

void Module::add_module(const std::string& name, Module& child) {
  children_.emplace_back(name, &child);
}

void Module::for_each(const std::string& prefix,
                      const std::function<void(const std::string&, Tensor&)>& visit) {
  for (auto& [name, tensor] : parameters_) visit(prefix + name, *tensor);
  for (auto& [name, child] : children_) child->for_each(prefix + name + ".", visit);
}

void Module::collect(const std::string& prefix, std::vector<NamedParameter>& out) const {
  for (const auto& [name, tensor] : parameters_) out.push_back({prefix + name, *tensor});
  for (const auto& [name, child] : children_) child->collect(prefix + name + ".", out);
}

std::vector<NamedParameter> Module::parameters() const {
  std::vector<NamedParameter> out;
  collect("", out);
  return out;
}

std::vector<std::pair<std::string, Tensor*>> Module::parameter_slots() {
  std::vector<std::pair<std::string, Tensor*>> out;
  for_each("", [&](const std::string& name, Tensor& tensor) { out.emplace_back(name, &tensor); });
  return out;
}

std::int64_t Module::parameter_count() const {
  std::int64_t count = 0;
  for (const NamedParameter& p : parameters()) count += p.tensor.numel();
  return count;
}

void Module::move_to(DeviceKind device, DType dtype) {
  for (const auto& [name, tensor] : parameter_slots()) {
    const Tensor there = tensor->detach().to(device);
    *tensor = there.dtype() == dtype ? there : there.to(dtype);
  }
}

void Module::train(bool on) {
  training_ = on;
  for (auto& [name, child] : children_) child->train(on);
}

void Module::set_step_state(const kernels::StepState* state) {
  step_state_ = state;
  for (auto& [name, child] : children_) child->set_step_state(state);
}

}  // namespace onpa::nn
