#include <cmath>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/attention_rowwise.h"
#include "kernels/cpu/parallel.h"

#ifndef ONPA_ATTENTION_BWD_TASK
#define ONPA_ATTENTION_BWD_TASK
namespace onpa::kernels {
// What one task of the backward pass covers: queries [q0, q1) against keys [k0, k1) of one head.
struct BackwardTask {
  std::int64_t sample, head, q0, q1, k0, k1;
  bool want_dq;   // k0 = 0, k1 = tokens
  bool want_dkv;  // q0 = 0, q1 = queries
};
}  // namespace onpa::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_bwd.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which re-includes this file once per target.
#include "kernels/cpu/attention_tile.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

constexpr float kLog2E = 1.44269504f;

// Where a head's rows lie.
struct Head {
  std::int64_t dim, stride, width;  // stride of qkv rows, width of y rows
  const float *q, *k, *v, *dy, *y, *lse;
  float *dq, *dk, *dv;
};

Head head_of(const AttentionBwd<float>& a, const BackwardTask& t) {
  const std::int64_t width = a.heads * a.head_dim, stride = 3 * width;
  const std::int64_t in = t.sample * a.tokens * stride + t.head * a.head_dim;
  const std::int64_t out = t.sample * a.queries * width + t.head * a.head_dim;
  return {.dim = a.head_dim,
          .stride = stride,
          .width = width,
          .q = a.qkv + in,
          .k = a.qkv + in + width,
          .v = a.qkv + in + 2 * width,
          .dy = a.dy + out,
          .y = a.y + out,
          .lse = a.lse + (t.sample * a.heads + t.head) * a.queries,
          .dq = a.dqkv + in,
          .dk = a.dqkv + in + width,
          .dv = a.dqkv + in + 2 * width};
}

// Packed blocks of keys and of queries; all (kBlock, ld) unless said otherwise.
struct BackwardBuffers {
  std::int64_t ld;
  float *keys, *keys_transposed, *values_transposed;  // transposed: (head_dim, kBlock)
  float *q, *dy, *dq, *dk, *dv;
  float *p, *ds;  // (kBlock, kBlock): queries by keys
  float* delta;   // (q1 - q0): dy . y of each query
};

BackwardBuffers take_buffers(Scratch& scratch, std::int64_t queries, std::int64_t dim) {
  const std::int64_t ld = packed_stride(dim);
  scratch.reset(6 * kBlock * ld + 2 * kBlock * (dim + kBlock) + queries);
  BackwardBuffers t;
  t.ld = ld;
  for (float** rows : {&t.keys, &t.q, &t.dy, &t.dq, &t.dk, &t.dv}) {
    *rows = scratch.take(kBlock * ld);
  }
  for (float** transposed : {&t.keys_transposed, &t.values_transposed}) {
    *transposed = scratch.take(dim * kBlock);
  }
  for (float** square : {&t.p, &t.ds}) *square = scratch.take(kBlock * kBlock);
  t.delta = scratch.take(queries);
  return t;
}

// sum over the head of dy * y, which is what the softmax's normalisation takes off each score's
// gradient.
HWY_ATTR void row_dots(const Head& h, std::int64_t first, std::int64_t rows, float* out) {
  const D d;
  const std::int64_t n = lanes();
  for (std::int64_t i = 0; i < rows; ++i) {
    const float *dy = h.dy + (first + i) * h.width, *y = h.y + (first + i) * h.width;
    V sum = hn::Zero(d);
    std::int64_t c = 0;
    for (; c + n <= h.dim; c += n) {
      sum = hn::MulAdd(hn::LoadU(d, dy + c), hn::LoadU(d, y + c), sum);
    }
    out[i] = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; c < h.dim; ++c) out[i] += dy[c] * y[c];
  }
}

// Row by row: p holds q . k and becomes the probability; ds holds dy . v and becomes the gradient
// of q . k. Rows from `rows` to `padded_rows` become 0.
HWY_ATTR void score_gradients(const BackwardBuffers& t, const float* lse, const float* delta,
                              std::int64_t rows, std::int64_t padded_rows, std::int64_t keys,
                              float scale) {
  const D d;
  const std::int64_t n = lanes(), padded = round_up(keys, n);
  const V to_log2 = hn::Set(d, scale * kLog2E), vscale = hn::Set(d, scale);
  for (std::int64_t i = 0; i < rows; ++i) {
    float *p = t.p + i * kBlock, *ds = t.ds + i * kBlock;
    const V shift = hn::Set(d, lse[i] * kLog2E), vdelta = hn::Set(d, delta[i]);
    for (std::int64_t j = 0; j < padded; j += n) {
      const V prob = exp2(hn::MulSub(hn::Load(d, p + j), to_log2, shift));
      hn::Store(prob, d, p + j);
      const V scaled = hn::Mul(prob, vscale);
      hn::Store(hn::Mul(scaled, hn::Sub(hn::Load(d, ds + j), vdelta)), d, ds + j);
    }
  }
  std::fill(t.p + rows * kBlock, t.p + padded_rows * kBlock, 0.0f);
  std::fill(t.ds + rows * kBlock, t.ds + padded_rows * kBlock, 0.0f);
}

// to (rows, dim) (+)= from, whose rows lie `ld` apart.
HWY_ATTR void store_rows(const float* from, std::int64_t ld, std::int64_t rows, std::int64_t dim,
                         bool add, float* to, std::int64_t stride) {
  const D d;
  const std::int64_t n = lanes();
  for (std::int64_t r = 0; r < rows; ++r, from += ld, to += stride) {
    std::int64_t c = 0;
    for (; c + n <= dim; c += n) {
      const V v = hn::Load(d, from + c);
      hn::StoreU(add ? hn::Add(hn::LoadU(d, to + c), v) : v, d, to + c);
    }
    for (; c < dim; ++c) to[c] = add ? to[c] + from[c] : from[c];
  }
}

// One block of queries against the packed block of keys.
HWY_ATTR void backward_block(const Head& h, const BackwardTask& task, const BackwardBuffers& t,
                             float scale, std::int64_t q0, std::int64_t rows, std::int64_t k0,
                             std::int64_t keys) {
  const std::int64_t padded = round_up(rows, kTileRows), ld = t.ld;
  pack_rows(h.q + q0 * h.stride, h.stride, rows, padded, h.dim, 1.0f, t.q, ld);
  pack_rows(h.dy + q0 * h.width, h.width, rows, padded, h.dim, 1.0f, t.dy, ld);
  multiply<false>(padded, keys, h.dim, {t.q, ld, 1}, t.keys_transposed, kBlock, t.p, kBlock);
  multiply<false>(padded, keys, h.dim, {t.dy, ld, 1}, t.values_transposed, kBlock, t.ds, kBlock);
  score_gradients(t, h.lse + q0, t.delta + q0 - task.q0, rows, padded, keys, scale);
  if (task.want_dkv) {
    multiply<true>(keys, h.dim, rows, {t.p, 1, kBlock}, t.dy, ld, t.dv, ld);
    multiply<true>(keys, h.dim, rows, {t.ds, 1, kBlock}, t.q, ld, t.dk, ld);
  }
  if (task.want_dq) {
    multiply<false>(padded, h.dim, keys, {t.ds, kBlock, 1}, t.keys, ld, t.dq, ld);
    store_rows(t.dq, ld, rows, h.dim, k0 > 0, h.dq + q0 * h.stride, h.stride);
  }
}

void run_task(const AttentionBwd<float>& a, const BackwardTask& task) {
  thread_local Scratch scratch;
  const Head h = head_of(a, task);
  const BackwardBuffers t = take_buffers(scratch, task.q1 - task.q0, h.dim);
  row_dots(h, task.q0, task.q1 - task.q0, t.delta);
  for (std::int64_t k0 = task.k0; k0 < task.k1; k0 += kBlock) {
    const std::int64_t keys = std::min(kBlock, task.k1 - k0);
    pack_transposed(h.k + k0 * h.stride, h.stride, keys, h.dim, t.keys_transposed, kBlock);
    pack_transposed(h.v + k0 * h.stride, h.stride, keys, h.dim, t.values_transposed, kBlock);
    if (task.want_dq) {
      pack_rows(h.k + k0 * h.stride, h.stride, keys, keys, h.dim, 1.0f, t.keys, t.ld);
    }
    std::fill_n(t.dk, kBlock * t.ld, 0.0f);
    std::fill_n(t.dv, kBlock * t.ld, 0.0f);
    for (std::int64_t q0 = task.q0; q0 < task.q1; q0 += kBlock) {
      backward_block(h, task, t, a.scale, q0, std::min(kBlock, task.q1 - q0), k0, keys);
    }
    if (!task.want_dkv) continue;
    store_rows(t.dk, t.ld, keys, h.dim, false, h.dk + k0 * h.stride, h.stride);
    store_rows(t.dv, t.ld, keys, h.dim, false, h.dv + k0 * h.stride, h.stride);
    for (std::int64_t j = std::max(k0, a.queries); j < k0 + keys; ++j) {
      std::fill_n(h.dq + j * h.stride, h.dim, 0.0f);
    }
  }
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {
namespace {
HWY_EXPORT(run_task);

// Keys or queries per task where a head is split over tasks; a multiple of the block.
constexpr std::int64_t kSpan = 384;

void run_tasks(const AttentionBwd<float>& a, const std::vector<BackwardTask>& tasks) {
  parallel_for(static_cast<std::int64_t>(tasks.size()), 1,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   HWY_DYNAMIC_DISPATCH(run_task)(a, tasks[static_cast<std::size_t>(i)]);
                 }
               });
}

// A task per head makes five products per block of scores. Splitting heads by keys for dk and dv,
// then by queries for dq, makes seven, so it pays only where heads leave threads idle. Both add the
// same blocks in the same order: the choice does not change a bit of the result.
bool heads_fill_threads(std::int64_t heads) {
  const std::int64_t threads = thread_count(), rounds = (heads + threads - 1) / threads;
  return 7 * heads >= 5 * rounds * threads;
}
}  // namespace

template <>
void attention_bwd(Cpu, const AttentionBwd<float>& a) {
  std::vector<BackwardTask> tasks, dq_tasks;
  const bool whole = heads_fill_threads(a.batch * a.heads);
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      if (whole) {
        tasks.push_back({b, h, 0, a.queries, 0, a.tokens, true, true});
        continue;
      }
      for (std::int64_t k = 0; k < a.tokens; k += kSpan) {
        tasks.push_back({b, h, 0, a.queries, k, std::min(a.tokens, k + kSpan), false, true});
      }
      for (std::int64_t q = 0; q < a.queries; q += kSpan) {
        dq_tasks.push_back({b, h, q, std::min(a.queries, q + kSpan), 0, a.tokens, true, false});
      }
    }
  }
  run_tasks(a, tasks);
  run_tasks(a, dq_tasks);
}

template <>
void attention_bwd(Cpu, const AttentionBwd<double>& a) {
  rowwise::attention_bwd(a);
}

}  // namespace onpa::kernels
#endif  // HWY_ONCE
