// FlatParams: all parameters of a model in one allocation, their gradients in a second, so that an
// optimizer step, a clip or an all-reduce is one pass over one buffer. Parameters that learn come
// first, so that what is kept for those alone (gradients, moments) has the layout of the beginning.
// For bf16 a third buffer holds what the model computes with: the f32 parameters, rounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace onpa {

struct FlatSlot {
  std::string name;
  Shape shape;
  std::int64_t offset = 0;  // elements from the start of the buffers; a multiple of 16
  std::int64_t numel = 0;
};

class FlatParams {
 public:
  /// Moves the given parameters (name, handle) into one buffer: each handle now points into it, and
  /// its gradient, if it requires one, is bound to the same place of grad(). From then on each
  /// learns or is frozen for good. All f32; names unique. Padding stays 0.
  explicit FlatParams(std::vector<std::pair<std::string, Tensor*>> parameters);

  /// Those that require a gradient first, in the order given; then the frozen ones.
  const std::vector<FlatSlot>& slots() const { return slots_; }
  std::span<const FlatSlot> learning_slots() const { return {slots_.data(), learning_}; }
  /// The handle that slots()[slot] was made of.
  const Tensor& parameter(std::size_t slot) const { return *parameters_[slot]; }
  const Tensor& data() const { return data_; }          // (numel) f32
  const Tensor& compute() const { return compute_; }    // (numel); data() unless it is bf16
  const Tensor& grad() const { return grad_; }          // (learning_numel), dtype of compute()
  std::int64_t numel() const { return data_.numel(); }  // padding included
  std::int64_t learning_numel() const { return grad_.numel(); }
  /// View of one parameter's part of a buffer of this layout (data, average), or, if the parameter
  /// learns, of one that ends with those that do (grad, moment).
  Tensor view(const Tensor& buffer, const FlatSlot& slot) const;

  /// Moves the buffers to `device`; the model then computes in `dtype` (f32, or bf16 on the GPU).
  /// Gradients are forgotten. Handles and views of before keep the old memory.
  void move_to(DeviceKind device, DType dtype = DType::kF32);
  /// Brings compute() up to date after data() was written by anything but the optimizer.
  void refresh_compute();

  /// Forgets all gradients; the next backward pass overwrites them.
  void clear_grad();
  /// Zeroes the gradients that no backward pass has written since clear_grad(); call before the
  /// optimizer reads grad().
  void finish_grad();

 private:
  void bind();

  std::vector<FlatSlot> slots_;
  std::size_t learning_ = 0;  // the first so many slots
  std::vector<Tensor*> parameters_;
  Tensor data_, compute_, grad_;
};

}  // namespace onpa
