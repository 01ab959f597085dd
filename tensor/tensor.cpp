#include "tensor/tensor.h"

#include <algorithm>
#include <cstring>

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

Tensor Tensor::full(const Shape& shape, double value, DType dtype) {
  Tensor out = empty(shape, dtype);
  with_float(dtype,
             [&]<class T>() { std::fill_n(out.data<T>(), out.numel(), static_cast<T>(value)); });
  return out;
}

double Tensor::item() const {
  ONPA_CHECK(defined() && numel_ == 1, "item() of a tensor of shape ", shape_);
  double value = 0;
  with_float(dtype_, [&]<class T>() { value = static_cast<double>(*data<T>()); });
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
  with_float(dtype_, [&]<class From>() {
    with_float(dtype, [&]<class To>() {
      std::transform(data<From>(), data<From>() + numel_, out.data<To>(),
                     [](From v) { return static_cast<To>(v); });
    });
  });
  return out;
}

void Tensor::copy_from(const Tensor& source) const {
  ONPA_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_, "copy_from: ", source.shape_, " ",
             name_of(source.dtype_), " into ", shape_, " ", name_of(dtype_));
  if (numel_ > 0) std::memmove(bytes(), source.bytes(), byte_count());
}

void Tensor::zero() const {
  if (numel_ > 0) std::memset(bytes(), 0, byte_count());
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
