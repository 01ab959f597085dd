#include "tensor/flat_params.h"

#include <algorithm>
#include <set>

namespace onpa {
namespace {

constexpr std::int64_t kSlotAlignment = 16;  // elements: 64 bytes

}  // namespace

FlatParams::FlatParams(std::vector<std::pair<std::string, Tensor*>> parameters) {
  std::set<std::string> names;
  std::int64_t total = 0, learning = 0;
  std::ranges::stable_partition(parameters,
                                [](const auto& p) { return p.second->requires_grad(); });
  for (const auto& [name, tensor] : parameters) {
    ONPA_CHECK(names.insert(name).second, "flat params: duplicate name ", name);
    ONPA_CHECK(tensor->dtype() == DType::kF32, "flat params: ", name, " is not f32");
    slots_.push_back({name, tensor->shape(), total, tensor->numel()});
    parameters_.push_back(tensor);
    total += (tensor->numel() + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
    if (tensor->requires_grad()) {
      learning = total;
      learning_ = slots_.size();
    }
  }
  data_ = compute_ = Tensor::zeros({total});
  grad_ = Tensor::zeros({learning});
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    view(data_, slots_[i]).copy_from(*parameters_[i]);
  }
  bind();
}

// Points the model's parameters into compute_ and grad_.
void FlatParams::bind() {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Tensor moved = view(compute_, slots_[i]);
    if (i < learning_) {
      moved.set_requires_grad();
      moved.bind_grad(view(grad_, slots_[i]));
    }
    *parameters_[i] = moved;
  }
}

void FlatParams::move_to(DeviceKind device, DType dtype) {
  data_ = data_.to(device);
  compute_ = dtype == DType::kF32 ? data_ : Tensor::empty(data_.shape(), dtype, device);
  grad_ = Tensor::zeros(grad_.shape(), dtype, device);
  refresh_compute();
  bind();
}

void FlatParams::refresh_compute() {
  if (compute_.dtype() != DType::kF32) compute_.copy_from(data_.to(compute_.dtype()));
}

Tensor FlatParams::view(const Tensor& buffer, const FlatSlot& slot) const {
  return buffer.slice(slot.offset, slot.offset + slot.numel).view(slot.shape);
}

void FlatParams::clear_grad() {
  for (Tensor* parameter : parameters_) parameter->clear_grad();
}

void FlatParams::finish_grad() {
  for (std::size_t i = 0; i < learning_; ++i) {
    if (!parameters_[i]->grad().defined()) view(grad_, slots_[i]).zero();
  }
}

}  // namespace onpa
