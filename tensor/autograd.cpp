#include "tensor/autograd.h"

#include <unordered_map>
#include <vector>

#include "kernels/elementwise.h"
#include "tensor/dispatch.h"
#include "tensor/memory_plan.h"
#include "tensor/op_scope.h"

namespace onpa {
namespace {

thread_local bool recording = true;

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

}  // namespace

bool grad_enabled() {
  return recording;
}
NoGrad::NoGrad() : previous_(recording) {
  recording = false;
}
NoGrad::~NoGrad() {
  recording = previous_;
}

Tensor record(Tensor y, std::initializer_list<Tensor> inputs,
              std::function<void(Tensor)> backward) {
  if (!recording) return y;
  std::vector<NodePtr> parents;
  for (const Tensor& input : inputs) {
    if (input.requires_grad()) parents.push_back(input.node_);
  }
  if (parents.empty()) return y;
  y.node_ = std::make_shared<detail::GradNode>();
  y.node_->requires_grad = true;
  y.node_->inputs = std::move(parents);
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
  auto pending = count_consumers(loss.node());
  accumulate_grad(loss, Tensor::full(loss.shape(), seed, loss.dtype(), loss.device()));

  std::vector<NodePtr> ready{loss.node()};
  while (!ready.empty()) {
    const NodePtr node = std::move(ready.back());
    ready.pop_back();
    if (node->backward) {
      // A node whose consumers all withheld their gradient passes none on.
      if (node->has_grad) {
        Tensor dy = std::move(*node->grad);
        node->grad = nullptr;
        node->has_grad = false;
        node->backward(std::move(dy));
      }
      node->backward = nullptr;
    }
    std::vector<NodePtr> inputs = std::move(node->inputs);
    node->inputs.clear();
    for (NodePtr& input : inputs) {
      if (--pending[input.get()] == 0) ready.push_back(std::move(input));
    }
  }
}

}  // namespace onpa
