// Module: a tree of named parameters. Names are PyTorch's, so published checkpoints load by name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/step_state.h"
#include "tensor/tensor.h"

namespace onpa::nn {

struct NamedParameter {
  std::string name;  // "blocks.0.attn.qkv.weight"
  Tensor tensor;
};

class Module {
 public:
  virtual ~Module() = default;
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// All parameters of this module and its children, in registration order, with dotted names.
  std::vector<NamedParameter> parameters() const;
  std::int64_t parameter_count() const;
  /// Name and address of every parameter, for FlatParams; addresses stay valid for the module's
  /// life.
  std::vector<std::pair<std::string, Tensor*>> parameter_slots();

  /// Moves all parameters to `device` and into `dtype` (f32, on the GPU also bf16) to be used, not
  /// trained: gradients and FlatParams' buffers are left behind.
  void move_to(DeviceKind device, DType dtype);

  /// Training mode switches dropout and patchout on. Applies to children too. Starts as false.
  void train(bool on = true);
  bool training() const { return training_; }
  /// On the GPU random draws take the step from `state` (device memory) where it is set, so that a
  /// captured step draws anew at each replay. Applies to children too; null by default.
  void set_step_state(const kernels::StepState* state);
  const kernels::StepState* step_state() const { return step_state_; }

 protected:
  /// Registers a parameter (uninitialised, requires a gradient) and returns a reference that stays
  /// valid for the module's life.
  Tensor& add_parameter(const std::string& name, const Shape& shape);
  /// Registers a child under `name`; the child must be a member of this object.
  void add_module(const std::string& name, Module& child);

 private:
  void collect(const std::string& prefix, std::vector<NamedParameter>& out) const;
  void for_each(const std::string& prefix,
                const std::function<void(const std::string&, Tensor&)>& visit);

  std::vector<std::pair<std::string, std::unique_ptr<Tensor>>> parameters_;
  std::vector<std::pair<std::string, Module*>> children_;
  bool training_ = false;
  const kernels::StepState* step_state_ = nullptr;
};

}  // namespace onpa::nn
