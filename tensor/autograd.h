// Define-by-run gradients: each op records one node whose backward is a lambda written under its
// forward.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <vector>

#include "tensor/tensor.h"

namespace onpa {

/// Makes `y` depend on `inputs`; `backward(dy)` must add to the gradient of each input that wants
/// one, through grad_target() or accumulate_grad(). Does nothing, and drops the lambda, when no
/// input requires a gradient or recording is off. Returns y. The lambda must not capture `y` itself
/// (that would be a cycle): capture y.detach().
Tensor record(Tensor y, std::initializer_list<Tensor> inputs,
              std::function<void(Tensor dy)> backward);

/// As record, for a function of `inputs` and of whatever parameters it captured: always recorded
/// while recording is on.
Tensor record_function(Tensor y, const std::vector<Tensor>& inputs,
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

/// While one lives, backward() on this thread calls `complete(leaf)` as soon as this call adds
/// nothing more to the gradient of a leaf (Tensor::node()); other gradients may still be missing
/// then. Once a call of backward() for each leaf that the call gave a gradient; a leaf that
/// recomputed functions use counts as used wherever they were recorded. Listeners do not nest.
class LeafGradListener {
 public:
  explicit LeafGradListener(std::function<void(const detail::GradNode* leaf)> complete);
  ~LeafGradListener();
  LeafGradListener(const LeafGradListener&) = delete;
  LeafGradListener& operator=(const LeafGradListener&) = delete;
};

namespace detail {

// While one lives, notes the leaves that functions use that are not recorded.
class UsedLeaves {
 public:
  UsedLeaves();
  ~UsedLeaves();
  UsedLeaves(const UsedLeaves&) = delete;
  UsedLeaves& operator=(const UsedLeaves&) = delete;
  std::vector<std::shared_ptr<GradNode>> nodes;  // some more than once

 private:
  UsedLeaves* outer_;
};

// Position of this thread's next recorded function in the order of recording.
std::uint64_t next_order();

// Runs the backward functions at and below `root`, whose gradient is there, and frees the graph.
// Throws Error on meeting a function recorded before `since`.
void walk_back(const std::shared_ptr<GradNode>& root, std::uint64_t since);

// Recording is on or off on this thread while one lives.
class Recording {
 public:
  explicit Recording(bool on);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

 private:
  bool previous_;
};

}  // namespace detail

/// No graph is recorded on this thread while one lives.
class NoGrad {
 public:
  NoGrad() : off_(false) {}

 private:
  detail::Recording off_;
};
bool grad_enabled();

}  // namespace onpa
