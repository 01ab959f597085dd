// Graphs of the simulated device: what the captured streams do, and where they wait for each other.
#include <algorithm>
#include <memory>
#include <utility>

#include "tests/cuda_sim/device_state.h"

namespace sim::detail {
namespace {

// How far the branches of one launch have come.
class Run {
 public:
  explicit Run(std::shared_ptr<const GraphBranches> branches)
      : branches_(std::move(branches)), places_(branches_->size()) {}

  bool advance() { return advance(0, (*branches_)[0].size()); }

 private:
  struct Place {
    std::size_t done = 0;
    Step current;  // the item after those, once it has begun
  };

  bool advance(std::size_t branch, std::size_t end) {
    Place& place = places_[branch];
    for (; place.done < end; ++place.done) {
      const GraphItem& item = (*branches_)[branch][place.done];
      if (!item.work) {
        if (!advance(item.branch, item.position)) return false;
        continue;
      }
      if (!place.current) place.current = item.work;
      if (!place.current()) return false;
      place.current = nullptr;
    }
    return true;
  }

  std::shared_ptr<const GraphBranches> branches_;
  std::vector<Place> places_;
};

void reach(const GraphBranches& branches, std::vector<std::size_t>& reached, std::size_t branch,
           std::size_t end) {
  for (; reached[branch] < end; ++reached[branch]) {
    const GraphItem& item = branches[branch][reached[branch]];
    if (!item.work) reach(branches, reached, item.branch, item.position);
  }
}

}  // namespace

Step launch_of(const CUgraphExec_st& graph) {
  return [run = std::make_shared<Run>(graph.branches)] { return run->advance(); };
}

bool all_joined(const GraphBranches& branches) {
  std::vector<std::size_t> reached(branches.size());
  reach(branches, reached, 0, branches[0].size());
  for (std::size_t branch = 0; branch < branches.size(); ++branch) {
    if (reached[branch] < branches[branch].size()) return false;
  }
  return true;
}

}  // namespace sim::detail
