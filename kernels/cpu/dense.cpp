// Whole training steps of small dense networks. Three passes over the pool's threads: rows forward
// and back with the gradients of their groups, the sums of those, the update. Each works on pieces
// that the shape fixes.
#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/adamw.h"
#include "kernels/cpu/dense_panels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace onpa::kernels {
namespace {

constexpr std::int64_t kMostPieces = 16;

AdamWScalars scalars_of(const DenseStep& a, double scale) {
  AdamW all = {};
  all.beta1 = a.beta1;
  all.beta2 = a.beta2;
  all.lr = *a.lr;
  all.eps = a.eps;
  all.weight_decay = a.weight_decay;
  all.grad_scale = static_cast<float>(scale);
  all.step = static_cast<std::int64_t>(a.state->optimizer_step);
  return adamw_scalars(all);
}

void update_tile(const DenseStep& a, const DensePanels& p, const AdamWScalars& scalars, int i,
                 std::int64_t panel) {
  const DenseLayer& shape = a.layer[i];
  const std::int64_t first = panel * kPanel, outputs = panel_outputs(shape, panel);
  const auto update = [&](std::int64_t at, const float* grad, std::int64_t n) {
    AdamW range = {};
    range.param = a.param + at;
    range.grad = grad;
    range.m = a.m + at;
    range.v = a.v + at;
    adamw_elements(range, scalars, 0, n);
  };
  update(shape.weight + first * shape.inputs, p.layer[i].weight_grad + first * shape.inputs,
         outputs * shape.inputs);
  update(shape.bias + first, p.layer[i].bias_grad + first, outputs);
  pack_dense_tile(a, p, i, panel);
}

// Calls visit(layer, panel of its outputs, tile) for all tiles on the pool's threads. Large layers
// have large tiles, so each piece of work gets some from everywhere.
template <class Visit>
void for_all_tiles(const DenseStep& a, const Visit& visit) {
  const std::int64_t tiles = dense_tiles(a), pieces = std::min(tiles, kMostPieces);
  parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) {
      for (std::int64_t tile = begin; tile < tiles; tile += pieces) {
        for_tiles(a, tile, tile + 1, visit);
      }
    }
  });
}

}  // namespace

void dense_step(Cpu, const DenseStep& a) {
  ONPA_CHECK(a.workspace != nullptr, "dense_step: no workspace");
  const DensePanels p(a, a.workspace);
  const std::int64_t count =
      std::min(a.batch, a.rows - static_cast<std::int64_t>(a.state->position));
  const std::int64_t group_rows = dense_group_rows(a),
                     groups = (count + group_rows - 1) / group_rows;
  parallel_for(groups, 1, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) run_dense_group(a, p, count, begin);
  });
  for_all_tiles(a, [&](int i, std::int64_t panel, std::int64_t tile) {
    p.squares[tile] = sum_dense_tile(a, p, groups, i, panel);
  });
  double loss = 0, squares = 0;
  for (std::int64_t g = 0; g < groups; ++g) loss += p.loss[g];
  for (std::int64_t t = 0; t < dense_tiles(a); ++t) squares += p.squares[t];
  const double norm = std::sqrt(squares);
  *a.loss = std::isfinite(norm) ? static_cast<float>(loss / static_cast<double>(count))
                                : std::numeric_limits<float>::quiet_NaN();
  if (a.grad_norm != nullptr) *a.grad_norm = static_cast<float>(norm);
  DenseState next = *a.state;
  ++next.step;
  next.position += static_cast<std::uint64_t>(count);
  if (next.position >= static_cast<std::uint64_t>(a.rows)) {
    next.position = 0;
    ++next.epoch;
  }
  if (!std::isfinite(*a.loss)) {
    ++next.not_finite;
  } else {
    const double scale = a.clip_norm > 0 ? std::min(1.0, a.clip_norm / (norm + 1e-6)) : 1.0;
    const AdamWScalars scalars = scalars_of(a, scale);
    for_all_tiles(
        a, [&](int i, std::int64_t panel, std::int64_t) { update_tile(a, p, scalars, i, panel); });
    ++next.optimizer_step;
    next.loss_sum += static_cast<double>(*a.loss) * static_cast<double>(count);
    next.samples += static_cast<std::uint64_t>(count);
  }
  *a.next_state = next;
}

}  // namespace onpa::kernels
