// Define-by-run gradients: each op records one node whose backward is a lambda written under its
// forward.
#pragma once

#include <functional>
#include <initializer_list>

#include "tensor/tensor.h"

namespace onpa {

/// Makes `y` depend on `inputs`; `backward(dy)` must add to the gradient of each input that wants
/// one, through grad_target() or accumulate_grad(). Does nothing, and drops the lambda, when no
/// input requires a gradient or recording is off. Returns y. The lambda must not capture `y` itself
/// (that would be a cycle): capture y.detach().
Tensor record(Tensor y, std::initializer_list<Tensor> inputs,
              std::function<void(Tensor dy)> backward);

/// Where a backward kernel writes the gradient of `x`, and whether it overwrites or adds.
/// `tensor` is undefined when x wants no gradient. Asking marks the gradient as written.
struct GradTarget {
  Tensor tensor;
  kernels::GradMode mode = kernels::GradMode::kAssign;
  explicit operator bool() const { return tensor.defined(); }
  template <class T>
  T* data() const {
    return tensor.defined() ? tensor.data<T>() : nullptr;
  }
};
GradTarget grad_target(const Tensor& x);

/// Adds `g` (numel of x) to the gradient of `x`, taking over its memory when nobody else holds it.
void accumulate_grad(const Tensor& x, Tensor g);

/// Computes the gradient of the scalar `loss` (times `seed`) in every leaf that it depends on,
/// adding to gradients that are already there. Frees the graph as it goes.
void backward(const Tensor& loss, double seed = 1.0);

/// No graph is recorded on this thread while one lives.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};
bool grad_enabled();

}  // namespace onpa
