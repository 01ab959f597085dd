#include "tensor/recompute.h"

#include <algorithm>
#include <cstddef>
#include <unordered_set>
#include <utility>

#include "tensor/autograd.h"
#include "tensor/memory_plan.h"
#include "tensor/op_scope.h"

namespace onpa {
namespace {

using NodePtr = std::shared_ptr<detail::GradNode>;

// A leaf with the values of x: gradients that reach it go no further.
Tensor leaf_of(const Tensor& x, bool requires_grad) {
  Tensor leaf = x.detach();
  leaf.set_requires_grad(requires_grad);
  return leaf;
}

// The gradient that reached a leaf; undefined if none did.
Tensor take_grad(const Tensor& leaf) {
  detail::GradNode& node = *leaf.node();
  if (!std::exchange(node.has_grad, false)) return {};
  return std::move(*std::exchange(node.grad, nullptr));
}

// Backward from several tensors of one graph, which are let go before it starts: their values may
// be needed no more.
void walk_back_from(Tensors tensors, Tensors gradients, std::uint64_t since) {
  const auto root = std::make_shared<detail::GradNode>();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!gradients[i].defined() || !tensors[i].requires_grad()) continue;
    accumulate_grad(tensors[i], std::move(gradients[i]));
    root->inputs.push_back(tensors[i].node());
  }
  tensors.clear();
  detail::walk_back(root, since);
}

// One call of recompute(), from its forward pass to its backward pass.
struct Region {
  std::function<Tensors(const Tensors&)> first;
  Tensors inputs;                                   // stand-ins
  std::vector<std::pair<NodePtr, NodePtr>> stands;  // an input's node and its stand-in's
  Tensors made;                                     // by `first`: leaves of the graph of `last`
  std::vector<NodePtr> used;                        // leaves that `first` uses, some again
  std::vector<bool> dropped;                        // of `made`, whose memory was given back
  NodePtr last;
  std::uint64_t last_since = 0;

  void add_inputs(const Tensors& given);
  void run_first();
  void drop_made(const Tensor& y);
  std::unordered_set<NodePtr> leaves() const;
  Tensors run_again();
  void backward(Tensor dy);
};

// A tensor given twice has one stand-in, since it has one gradient.
void Region::add_inputs(const Tensors& given) {
  for (const Tensor& x : given) {
    const auto same = std::find_if(stands.begin(), stands.end(), [&](const auto& stand) {
      return x.requires_grad() && stand.first == x.node();
    });
    if (same != stands.end()) {
      const auto at = std::find_if(inputs.begin(), inputs.end(), [&](const Tensor& input) {
        return input.node() == same->second;
      });
      inputs.push_back(*at);
      continue;
    }
    inputs.push_back(leaf_of(x, x.requires_grad()));
    if (x.requires_grad()) stands.emplace_back(x.node(), inputs.back().node());
  }
}

// Memory that something else holds too, as that of an input passed through, would not become free.
void Region::run_first() {
  const NoGrad no_grad;
  detail::UsedLeaves leaves;
  Tensors results = first(inputs);
  used = std::move(leaves.nodes);
  for (const Tensor& result : results) {
    dropped.push_back(result.storage_use_count() == 1);
    made.push_back(leaf_of(result, true));
  }
}

void Region::drop_made(const Tensor& y) {
  for (std::size_t i = 0; i < made.size(); ++i) {
    if (made[i].storage() == y.storage()) dropped[i] = false;
    if (dropped[i]) made[i].storage()->give_back();
  }
}

// The leaves to which the region's backward pass may add: what both functions use but were not
// given. As inputs of the region's node they are complete no earlier than it has run.
std::unordered_set<NodePtr> Region::leaves() const {
  std::unordered_set<NodePtr> found(used.begin(), used.end()), seen{last};
  std::vector<NodePtr> stack{last};
  while (!stack.empty()) {
    const NodePtr node = std::move(stack.back());
    stack.pop_back();
    if (node->order == 0) found.insert(node);
    for (const NodePtr& input : node->inputs) {
      if (seen.insert(input).second) stack.push_back(input);
    }
  }
  for (const auto& [node, stand] : stands) found.erase(stand);
  for (const Tensor& tensor : made) found.erase(tensor.node());
  return found;
}

void Region::backward(Tensor dy) {
  // The gradients that the inputs have so far are added to in place.
  for (auto& [node, stand] : stands) {
    stand->grad = std::move(node->grad);
    stand->has_grad = std::exchange(node->has_grad, false);
  }
  const std::uint64_t since = detail::next_order();
  Tensors again = run_again();
  last->grad = std::make_shared<Tensor>(std::move(dy));
  last->has_grad = true;
  detail::walk_back(last, last_since);
  Tensors gradients;
  for (const Tensor& tensor : made) gradients.push_back(take_grad(tensor));
  made.clear();
  walk_back_from(std::move(again), std::move(gradients), since);
  for (auto& [node, stand] : stands) {
    node->grad = std::move(stand->grad);
    node->has_grad = stand->has_grad;
  }
}

// The values that were dropped are back in `made` too.
Tensors Region::run_again() {
  const detail::Recording on(true);
  const MemoryCategory category("recomputed");
  const PhaseScope scope("recompute");
  Tensors again = first(inputs);
  ONPA_CHECK(again.size() == made.size(), "recompute: ", again.size(), " tensors when run again, ",
             made.size(), " before");
  for (std::size_t i = 0; i < made.size(); ++i) {
    ONPA_CHECK(again[i].shape() == made[i].shape() && again[i].dtype() == made[i].dtype(),
               "recompute: tensor ", i, " has shape ", again[i].shape(), " when run again, ",
               made[i].shape(), " before");
    if (dropped[i]) made[i].storage()->borrow(again[i].storage());
  }
  return again;
}

}  // namespace

Tensor recompute(const Tensors& inputs, const std::function<Tensors(const Tensors&)>& first,
                 const std::function<Tensor(const Tensors&, const Tensors&)>& last) {
  if (!grad_enabled()) return last(inputs, first(inputs));
  const auto region = std::make_shared<Region>();
  region->first = first;
  region->add_inputs(inputs);
  region->run_first();
  region->last_since = detail::next_order();
  const Tensor y = last(region->inputs, region->made);
  if (!y.requires_grad()) return y;
  region->last = y.node();
  region->drop_made(y);
  const Tensor result =
      record_function(y.detach(), inputs, [region](Tensor dy) { region->backward(std::move(dy)); });
  for (const NodePtr& leaf : region->leaves()) result.node()->inputs.push_back(leaf);
  return result;
}

}  // namespace onpa
