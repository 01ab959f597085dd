#include "tensor/tensor.h"

#include <algorithm>

#include "kernels/convert.h"
#include "tensor/device.h"
#include "tensor/dispatch.h"

namespace onpa {

Tensor Tensor::empty(const Shape& shape, DType dtype, DeviceKind device) {
  Tensor out;
  out.shape_ = shape;
  out.numel_ = shape.numel();
  out.dtype_ = dtype;
  out.storage_ = Storage::allocate(out.byte_count(), device);
  return out;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, DeviceKind device) {
  Tensor out = empty(shape, dtype, device);
  out.zero();
  return out;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, DeviceKind device) {
  Tensor out = empty(shape, dtype, device);
  on_device(device, [&](auto dev) {
    with_float(dev, dtype, [&]<class T>() {
      kernels::fill<T>(
          dev, {.y = out.data<T>(), .value = static_cast<stat_t<T>>(value), .n = out.numel()});
    });
  });
  return out;
}

double Tensor::item() const {
  ONPA_CHECK(defined() && numel_ == 1, "item() of a tensor of shape ", shape_);
  if (device() == DeviceKind::kCuda) {
    return (dtype_ == DType::kBF16 ? to(DType::kF32) : *this).to(DeviceKind::kCpu).item();
  }
  double value = 0;
  with_float(kernels::Cpu{}, dtype_, [&]<class T>() { value = static_cast<double>(*data<T>()); });
  return value;
}

Tensor Tensor::detach() const {
  Tensor out = *this;
  out.node_ = nullptr;
  return out;
}

Tensor Tensor::view(const Shape& shape) const {
  ONPA_CHECK(shape.numel() == numel_, "view: ", shape_, " as ", shape);
  Tensor out = detach();
  out.shape_ = shape;
  return out;
}

Tensor Tensor::slice(std::int64_t begin, std::int64_t end) const {
  ONPA_CHECK(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "slice: rows [",
             begin, ", ", end, ") of ", shape_);
  Tensor out = detach();
  out.shape_ = shape_.with(0, end - begin);
  const std::int64_t row = shape_[0] == 0 ? 0 : numel_ / shape_[0];
  out.numel_ = (end - begin) * row;
  out.offset_bytes_ += static_cast<std::size_t>(begin * row) * size_of(dtype_);
  return out;
}

Tensor Tensor::clone() const {
  Tensor out = empty(shape_, dtype_, device());
  out.copy_from(*this);
  return out;
}

Tensor Tensor::to(DType dtype) const {
  Tensor out = empty(shape_, dtype, device());
  on_device(device(), [&](auto dev) {
    with_float(dev, dtype_, [&]<class From>() {
      with_float(dev, dtype, [&]<class To>() {
        kernels::convert<From, To>(dev, {.x = data<From>(), .y = out.data<To>(), .n = numel_});
      });
    });
  });
  return out;
}

Tensor Tensor::to(DeviceKind device) const {
  if (device == this->device()) return detach();
  Tensor out = empty(shape_, dtype_, device);
  out.copy_from(*this);
  return out;
}

void Tensor::copy_from(const Tensor& source) const {
  ONPA_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_, "copy_from: ", source.shape_, " ",
             name_of(source.dtype_), " into ", shape_, " ", name_of(dtype_));
  copy_bytes(bytes(), device(), source.bytes(), source.device(), byte_count());
}

void Tensor::zero() const {
  zero_bytes(bytes(), device(), byte_count());
}

Tensor& Tensor::set_requires_grad(bool value) {
  ONPA_CHECK(!node_ || !node_->backward, "set_requires_grad: tensor ", shape_, " is not a leaf");
  if (!node_) node_ = std::make_shared<detail::GradNode>();
  node_->requires_grad = value;
  return *this;
}

Tensor Tensor::grad() const {
  return node_ && node_->has_grad && node_->grad ? *node_->grad : Tensor();
}

void Tensor::clear_grad() const {
  if (node_) node_->has_grad = false;
}

void Tensor::bind_grad(const Tensor& memory) const {
  ONPA_CHECK(node_ && memory.shape() == shape_ && memory.dtype() == dtype_,
             "bind_grad: ", memory.shape(), " for ", shape_);
  node_->grad = std::make_shared<Tensor>(memory.detach());
  node_->has_grad = false;
}

}  // namespace onpa
