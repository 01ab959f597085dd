// Tensor: a shared handle to contiguous row-major memory, with define-by-run gradients.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/error.h"
#include "tensor/shape.h"
#include "tensor/storage.h"

namespace onpa {

class Tensor;

namespace detail {

// What autograd knows of one tensor: its gradient and, unless it is a leaf, how it was made.
struct GradNode {
  bool requires_grad = false;
  bool has_grad = false;         // grad holds a value (else its memory may be stale)
  std::uint64_t order = 0;       // of recording on this thread; 0 for a leaf
  std::shared_ptr<Tensor> grad;  // same shape; a leaf's may be bound to a slice of a flat buffer
  std::vector<std::shared_ptr<GradNode>> inputs;  // empty for a leaf
  std::function<void(Tensor dy)> backward;        // null for a leaf
};

}  // namespace detail

/// Eager tensor. Copying a Tensor copies the handle, not the data. Always contiguous: reshape and
/// slices of the leading axis are views, a transpose is an op.
class Tensor {
 public:
  /// An undefined tensor; defined() is false.
  Tensor() = default;

  static Tensor empty(const Shape& shape, DType dtype = DType::kF32,
                      DeviceKind device = DeviceKind::kCpu);
  static Tensor zeros(const Shape& shape, DType dtype = DType::kF32,
                      DeviceKind device = DeviceKind::kCpu);
  static Tensor full(const Shape& shape, double value, DType dtype = DType::kF32,
                     DeviceKind device = DeviceKind::kCpu);
  /// A copy of `values`; throws Error if the count is not shape.numel().
  template <class T>
  static Tensor from(const Shape& shape, std::span<const T> values);
  template <class T>
  static Tensor from(const Shape& shape, const std::vector<T>& values) {
    return from<T>(shape, std::span<const T>(values));
  }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t size(int axis) const { return shape_[axis]; }
  std::int64_t numel() const { return numel_; }
  DType dtype() const { return dtype_; }
  DeviceKind device() const { return storage_->device(); }

  /// Pointer to the first element, on device(). Throws Error if T is not the dtype.
  template <class T>
  T* data() const {
    ONPA_CHECK(defined() && DTypeOf<T>::value == dtype_, "tensor of ",
               defined() ? name_of(dtype_) : "nothing", " read as ", name_of(DTypeOf<T>::value));
    ONPA_CHECK(storage_->data() != nullptr, "tensor ", shape_,
               " read after its memory was given back (see recompute.h)");
    return reinterpret_cast<T*>(bytes());
  }
  /// The elements, which must be on the CPU.
  template <class T>
  std::span<T> span() const {
    T* first = data<T>();
    ONPA_CHECK(device() == DeviceKind::kCpu, "tensor ", shape_, " is on the GPU; copy it first");
    return {first, static_cast<std::size_t>(numel_)};
  }
  std::byte* bytes() const { return static_cast<std::byte*>(storage_->data()) + offset_bytes_; }
  std::size_t byte_count() const { return static_cast<std::size_t>(numel_) * size_of(dtype_); }
  /// The single value of a tensor with one element, as double; waits for the GPU if it is there.
  double item() const;
  template <class T>
  std::vector<T> to_vector() const {
    const auto s = span<T>();
    return {s.begin(), s.end()};
  }

  /// Same memory, no gradient history.
  Tensor detach() const;
  /// Same memory with another shape of equal numel, no gradient history (see ops::reshape).
  Tensor view(const Shape& shape) const;
  /// Rows [begin, end) of the leading axis, same memory, no gradient history.
  Tensor slice(std::int64_t begin, std::int64_t end) const;
  /// A copy in new memory, no gradient history.
  Tensor clone() const;
  /// A copy converted to `dtype` (f32, f64 on the CPU; f32, bf16 on the GPU), no gradient history.
  Tensor to(DType dtype) const;
  /// A copy on `device`, or this tensor if it is there already; no gradient history.
  Tensor to(DeviceKind device) const;
  /// Copies the values of `source` (same shape and dtype, any device) into this memory.
  void copy_from(const Tensor& source) const;
  void zero() const;
  /// Handles that share this memory, including this one.
  long storage_use_count() const { return storage_.use_count(); }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  // --- gradients ---
  bool requires_grad() const { return node_ && node_->requires_grad; }
  /// Makes this a leaf whose gradient backward() computes.
  Tensor& set_requires_grad(bool value = true);
  /// The accumulated gradient; undefined if there is none.
  Tensor grad() const;
  /// Forgets the gradient; its memory, if bound, stays bound.
  void clear_grad() const;
  /// Lets the gradient of this leaf live in `memory` (same shape and dtype).
  void bind_grad(const Tensor& memory) const;
  const std::shared_ptr<detail::GradNode>& node() const { return node_; }

 private:
  friend Tensor record_function(Tensor, const std::vector<Tensor>&, std::function<void(Tensor)>);

  std::shared_ptr<Storage> storage_;
  std::size_t offset_bytes_ = 0;
  Shape shape_;
  std::int64_t numel_ = 0;
  DType dtype_ = DType::kF32;
  std::shared_ptr<detail::GradNode> node_;
};

template <class T>
Tensor Tensor::from(const Shape& shape, std::span<const T> values) {
  Tensor out = empty(shape, DTypeOf<T>::value);
  ONPA_CHECK(static_cast<std::int64_t>(values.size()) == shape.numel(), "tensor of shape ", shape,
             " from ", values.size(), " values");
  std::copy(values.begin(), values.end(), out.data<T>());
  return out;
}

}  // namespace onpa
