#include <cmath>
#include <limits>

#include "kernels/attention.h"
#include "kernels/cpu/attention_rowwise.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_fwd.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h, which re-includes this file once per target.
#include "kernels/cpu/attention_tile.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

// Buffers of one task: a span of queries with their running sums, one block of keys.
struct ForwardBuffers {
  std::int64_t ld;      // row stride of q, v, sums
  float *q, *sums;      // (span, ld): queries times scale * log2(e), unnormalised outputs
  float *peak, *total;  // (span): running maximum and denominator of each query
  float *keys_transposed, *values;  // (head_dim, kBlock), (kBlock, ld)
  float* scores;                    // (kBlock, kBlock)
};

ForwardBuffers take_buffers(Scratch& scratch, std::int64_t span, std::int64_t dim) {
  const std::int64_t ld = packed_stride(dim);
  scratch.reset(span * (2 * ld + 2) + kBlock * (dim + ld + kBlock));
  return {.ld = ld,
          .q = scratch.take(span * ld),
          .sums = scratch.take(span * ld),
          .peak = scratch.take(span),
          .total = scratch.take(span),
          .keys_transposed = scratch.take(dim * kBlock),
          .values = scratch.take(kBlock * ld),
          .scores = scratch.take(kBlock * kBlock)};
}

// Turns the scores of one query against one block of keys into unnormalised probabilities, moving
// the running maximum, and scales what was summed under the old maximum.
HWY_ATTR void online_softmax_row(std::int64_t keys, float* HWY_RESTRICT score, float& peak,
                                 float& total, float* HWY_RESTRICT sums, std::int64_t dim) {
  const D d;
  const std::int64_t n = lanes(), padded = round_up(keys, n);
  // Padding must not win the maximum and must get probability 0.
  std::fill(score + keys, score + padded, -std::numeric_limits<float>::infinity());
  V vpeak = hn::Set(d, peak);
  for (std::int64_t j = 0; j < padded; j += n) vpeak = hn::Max(vpeak, hn::Load(d, score + j));
  vpeak = hn::MaxOfLanes(d, vpeak);
  V vtotal = hn::Zero(d);
  for (std::int64_t j = 0; j < padded; j += n) {
    const V p = exp2(hn::Sub(hn::Load(d, score + j), vpeak));
    vtotal = hn::Add(vtotal, p);
    hn::Store(p, d, score + j);
  }
  const float moved = hn::GetLane(vpeak);
  const V shrink = exp2(hn::Sub(hn::Set(d, peak), vpeak));
  total = total * hn::GetLane(shrink) + hn::GetLane(hn::SumOfLanes(d, vtotal));
  if (moved != peak) {
    for (std::int64_t c = 0; c < dim; c += n) {
      hn::Store(hn::Mul(hn::Load(d, sums + c), shrink), d, sums + c);
    }
  }
  peak = moved;
}

// Divides by the denominators and writes the rows of y and lse.
void write_rows(const AttentionFwd<float>& a, const ForwardBuffers& t, std::int64_t b,
                std::int64_t h, std::int64_t first, std::int64_t rows) {
  constexpr float kLn2 = 0.693147181f;
  const std::int64_t width = a.heads * a.head_dim;
  for (std::int64_t i = 0; i < rows; ++i) {
    float* y = a.y + (b * a.queries + first + i) * width + h * a.head_dim;
    const float inverse = 1.0f / t.total[i];
    for (std::int64_t c = 0; c < a.head_dim; ++c) y[c] = t.sums[i * t.ld + c] * inverse;
    a.lse[(b * a.heads + h) * a.queries + first + i] = (t.peak[i] + std::log2(t.total[i])) * kLn2;
  }
}

// The outputs of queries [first, first + rows) of head h of sample b.
HWY_ATTR void forward_span(const AttentionFwd<float>& a, std::int64_t b, std::int64_t h,
                           std::int64_t first, std::int64_t rows) {
  constexpr float kLog2E = 1.44269504f;
  thread_local Scratch scratch;
  const std::int64_t dim = a.head_dim, width = a.heads * dim, stride = 3 * width;
  const std::int64_t padded_rows = round_up(rows, kTileRows);
  const ForwardBuffers t = take_buffers(scratch, padded_rows, dim);
  const float* head = a.qkv + b * a.tokens * stride + h * dim;
  pack_rows(head + first * stride, stride, rows, padded_rows, dim, a.scale * kLog2E, t.q, t.ld);
  std::fill_n(t.sums, padded_rows * t.ld, 0.0f);
  std::fill_n(t.peak, padded_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(t.total, padded_rows, 0.0f);

  for (std::int64_t k0 = 0; k0 < a.tokens; k0 += kBlock) {
    const std::int64_t keys = std::min(kBlock, a.tokens - k0);
    const float* k = head + k0 * stride + width;
    pack_transposed(k, stride, keys, dim, t.keys_transposed, kBlock);
    pack_rows(k + width, stride, keys, keys, dim, 1.0f, t.values, t.ld);
    for (std::int64_t i0 = 0; i0 < padded_rows; i0 += kBlock) {
      const std::int64_t some = std::min(kBlock, padded_rows - i0);
      multiply<false>(some, keys, dim, {t.q + i0 * t.ld, t.ld, 1}, t.keys_transposed, kBlock,
                      t.scores, kBlock);
      for (std::int64_t i = 0; i < some; ++i) {
        online_softmax_row(keys, t.scores + i * kBlock, t.peak[i0 + i], t.total[i0 + i],
                           t.sums + (i0 + i) * t.ld, dim);
      }
      multiply<true>(some, dim, keys, {t.scores, kBlock, 1}, t.values, t.ld, t.sums + i0 * t.ld,
                     t.ld);
    }
  }
  write_rows(a, t, b, h, first, rows);
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {
namespace {
HWY_EXPORT(forward_span);

// Queries per task. Each task packs all keys and values of its head, which costs about 2 % of the
// products at this span; queries and sums (2 x 120 KiB at head_dim 64) stay in L2.
constexpr std::int64_t kQuerySpan = 384;
}  // namespace

template <>
void attention_fwd(Cpu, const AttentionFwd<float>& a) {
  const std::int64_t spans = (a.queries + kQuerySpan - 1) / kQuerySpan;
  parallel_for(a.batch * a.heads * spans, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t head = task / spans, first = task % spans * kQuerySpan;
      HWY_DYNAMIC_DISPATCH(forward_span)
      (a, head / a.heads, head % a.heads, first, std::min(kQuerySpan, a.queries - first));
    }
  });
}

template <>
void attention_fwd(Cpu, const AttentionFwd<double>& a) {
  rowwise::attention_fwd(a);
}

}  // namespace onpa::kernels
#endif  // HWY_ONCE
