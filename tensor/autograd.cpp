#include "tensor/autograd.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/elementwise.h"
#include "tensor/dispatch.h"
#include "tensor/memory_plan.h"
#include "tensor/op_scope.h"

namespace onpa {
namespace {

thread_local bool recording = true;
thread_local std::uint64_t recorded = 0;
thread_local detail::UsedLeaves* used_leaves = nullptr;
thread_local std::function<void(const detail::GradNode*)> leaf_complete;
thread_local int walks = 0;  // on the stack: recomputation walks inside of a walk

using NodePtr = std::shared_ptr<detail::GradNode>;

// Counts, for each node below `root`, how many recorded consumers will deliver a gradient to it.
std::unordered_map<detail::GradNode*, int> count_consumers(const NodePtr& root) {
  std::unordered_map<detail::GradNode*, int> pending{{root.get(), 0}};
  std::vector<detail::GradNode*> stack{root.get()};
  while (!stack.empty()) {
    detail::GradNode* node = stack.back();
    stack.pop_back();
    for (const NodePtr& input : node->inputs) {
      if (pending[input.get()]++ == 0) stack.push_back(input.get());
    }
  }
  return pending;
}

struct Walk {
  Walk() { ++walks; }
  ~Walk() { --walks; }
};

bool is_leaf(const detail::GradNode& node) {
  return node.order == 0 && !node.backward;
}

}  // namespace

LeafGradListener::LeafGradListener(std::function<void(const detail::GradNode*)> complete) {
  ONPA_CHECK(!leaf_complete, "leaf gradients: this thread has a listener already");
  leaf_complete = std::move(complete);
}
LeafGradListener::~LeafGradListener() {
  leaf_complete = nullptr;
}

bool grad_enabled() {
  return recording;
}

namespace detail {

Recording::Recording(bool on) : previous_(std::exchange(recording, on)) {}
Recording::~Recording() {
  recording = previous_;
}

UsedLeaves::UsedLeaves() : outer_(std::exchange(used_leaves, this)) {}
UsedLeaves::~UsedLeaves() {
  used_leaves = outer_;
}

std::uint64_t next_order() {
  return recorded + 1;
}

void walk_back(const NodePtr& root, std::uint64_t since) {
  const Walk walk;
  auto pending = count_consumers(root);
  std::vector<NodePtr> ready{root};
  while (!ready.empty()) {
    const NodePtr node = std::move(ready.back());
    ready.pop_back();
    if (node->backward) {
      ONPA_CHECK(node->order >= since,
                 "recompute: the function uses a tensor with a gradient history that is not one "
                 "of its inputs");
      // A node whose consumers all withheld their gradient passes none on.
      if (node->has_grad) {
        Tensor dy = std::move(*node->grad);
        node->grad = nullptr;
        node->has_grad = false;
        node->backward(std::move(dy));
      }
      node->backward = nullptr;
    }
    // Of a walk inside of another, the leaves are inputs of the function that it is part of.
    if (walks == 1 && leaf_complete && is_leaf(*node) && node->has_grad) leaf_complete(node.get());
    std::vector<NodePtr> inputs = std::move(node->inputs);
    node->inputs.clear();
    for (NodePtr& input : inputs) {
      if (--pending[input.get()] == 0) ready.push_back(std::move(input));
    }
  }
}

}  // namespace detail

Tensor record(Tensor y, std::initializer_list<Tensor> inputs,
              std::function<void(Tensor)> backward) {
  if (!recording) {
    if (used_leaves == nullptr) return y;
    for (const Tensor& x : inputs) {
      if (x.requires_grad() && is_leaf(*x.node())) used_leaves->nodes.push_back(x.node());
    }
    return y;
  }
  if (std::none_of(inputs.begin(), inputs.end(),
                   [](const Tensor& input) { return input.requires_grad(); })) {
    return y;
  }
  return record_function(std::move(y), inputs, std::move(backward));
}

Tensor record_function(Tensor y, const std::vector<Tensor>& inputs,
                       std::function<void(Tensor)> backward) {
  if (!recording) return y;
  y.node_ = std::make_shared<detail::GradNode>();
  y.node_->requires_grad = true;
  y.node_->order = ++recorded;
  for (const Tensor& input : inputs) {
    if (input.requires_grad()) y.node_->inputs.push_back(input.node_);
  }
  y.node_->backward = std::move(backward);
  return y;
}

GradTarget grad_target(const Tensor& x) {
  if (!x.requires_grad()) return {};
  detail::GradNode& node = *x.node();
  if (!node.grad) {
    node.grad = std::make_shared<Tensor>(Tensor::empty(x.shape(), x.dtype(), x.device()));
  }
  const auto mode = node.has_grad ? kernels::GradMode::kAccumulate : kernels::GradMode::kAssign;
  node.has_grad = true;
  return {*node.grad, mode};
}

void accumulate_grad(const Tensor& x, Tensor g) {
  if (!x.requires_grad()) return;
  detail::GradNode& node = *x.node();
  ONPA_CHECK(g.numel() == x.numel() && g.dtype() == x.dtype(), "accumulate_grad: ", g.shape(),
             " into ", x.shape());
  if (!node.grad && g.storage_use_count() == 1) {
    node.grad = std::make_shared<Tensor>(g.view(x.shape()));
    node.has_grad = true;
    return;
  }
  const GradTarget target = grad_target(x);
  const OpScope scope("accumulate_grad", [&] {
    const bool adds = target.mode == kernels::GradMode::kAccumulate;
    const auto bytes = static_cast<double>(g.byte_count());
    return OpWork{adds ? static_cast<double>(g.numel()) : 0, (adds ? 3 : 2) * bytes};
  });
  if (target.mode == kernels::GradMode::kAssign) {
    target.tensor.copy_from(g.view(x.shape()));
    return;
  }
  on_device(x.device(), [&](auto dev) {
    with_float(dev, x.dtype(), [&]<class T>() {
      kernels::axpby<T>(dev, {.a = target.tensor.data<T>(),
                              .b = g.data<T>(),
                              .y = target.tensor.data<T>(),
                              .alpha = 1,
                              .beta = 1,
                              .n = x.numel()});
    });
  });
}

void backward(const Tensor& loss, double seed) {
  ONPA_CHECK(loss.defined() && loss.numel() == 1, "backward: loss has shape ", loss.shape(),
             ", want one element");
  ONPA_CHECK(loss.requires_grad(),
             "backward: the loss depends on nothing that requires a gradient");
  accumulate_grad(loss, Tensor::full(loss.shape(), seed, loss.dtype(), loss.device()));
  detail::walk_back(loss.node(), 0);
}

}  // namespace onpa
