#include <cmath>
#include <limits>

#include "kernels/attention.h"
#include "kernels/cpu/attention_rowwise.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_fwd.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which re-includes this file once per target.
#include "kernels/cpu/attention_tile.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

// Queries and keys per block of scores, which is 36 KiB: taller or narrower ones measured slower.
constexpr std::int64_t kRows = 48;
constexpr std::int64_t kKeys = 192;

// Buffers of one task: a span of queries with their running sums, one block of keys.
struct ForwardBuffers {
  std::int64_t ld;      // row stride of q, v, sums
  float *q, *sums;      // (span, ld): queries times scale * log2(e), unnormalised outputs
  float *peak, *total;  // (span): running maximum and denominator of each query
  float *keys_transposed, *values;  // (head_dim, kKeys), (kKeys, ld)
  float* scores;                    // (kRows, kKeys)
};

ForwardBuffers take_buffers(Scratch& scratch, std::int64_t span, std::int64_t dim) {
  const std::int64_t ld = packed_stride(dim);
  scratch.reset(span * (2 * ld + 2) + kKeys * (dim + ld + kRows));
  return {.ld = ld,
          .q = scratch.take(span * ld),
          .sums = scratch.take(span * ld),
          .peak = scratch.take(span),
          .total = scratch.take(span),
          .keys_transposed = scratch.take(dim * kKeys),
          .values = scratch.take(kKeys * ld),
          .scores = scratch.take(kRows * kKeys)};
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
HWY_ATTR void write_rows(const AttentionFwd<float>& a, const ForwardBuffers& t, std::int64_t b,
                         std::int64_t h, std::int64_t first, std::int64_t rows) {
  constexpr float kLn2 = 0.693147181f;
  const D d;
  const std::int64_t n = lanes(), width = a.heads * a.head_dim;
  for (std::int64_t i = 0; i < rows; ++i) {
    const float* sums = t.sums + i * t.ld;
    float* y = a.y + (b * a.queries + first + i) * width + h * a.head_dim;
    const float inverse = 1.0f / t.total[i];
    std::int64_t c = 0;
    for (; c + n <= a.head_dim; c += n) {
      hn::StoreU(hn::Mul(hn::Load(d, sums + c), hn::Set(d, inverse)), d, y + c);
    }
    for (; c < a.head_dim; ++c) y[c] = sums[c] * inverse;
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

  for (std::int64_t k0 = 0; k0 < a.tokens; k0 += kKeys) {
    const std::int64_t keys = std::min(kKeys, a.tokens - k0);
    const float* k = head + k0 * stride + width;
    pack_transposed(k, stride, keys, dim, t.keys_transposed, kKeys);
    pack_rows(k + width, stride, keys, keys, dim, 1.0f, t.values, t.ld);
    for (std::int64_t i0 = 0; i0 < padded_rows; i0 += kRows) {
      const std::int64_t some = std::min(kRows, padded_rows - i0);
      multiply<false>(some, keys, dim, {t.q + i0 * t.ld, t.ld, 1}, t.keys_transposed, kKeys,
                      t.scores, kKeys);
      for (std::int64_t i = 0; i < some; ++i) {
        online_softmax_row(keys, t.scores + i * kKeys, t.peak[i0 + i], t.total[i0 + i],
                           t.sums + (i0 + i) * t.ld, dim);
      }
      multiply<true>(some, dim, keys, {t.scores, kKeys, 1}, t.values, t.ld, t.sums + i0 * t.ld,
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

// Queries per task: at most kQuerySpan, whose queries and sums (2 x 150 KiB at head_dim 64) stay in
// L2, and fewer where that leaves threads idle. Each task packs all keys and values of its head,
// which costs about 2 % of the products at the full span. The bits do not depend on the choice.
constexpr std::int64_t kQuerySpan = 480;
constexpr std::int64_t kMinQuerySpan = 96;

std::int64_t spans_per_head(const AttentionFwd<float>& a) {
  const std::int64_t fewest = (a.queries + kQuerySpan - 1) / kQuerySpan;
  const std::int64_t most = std::max(fewest, a.queries / kMinQuerySpan);
  const std::int64_t heads = std::max<std::int64_t>(1, a.batch * a.heads);
  return std::clamp((2 * thread_count() + heads - 1) / heads, fewest, most);
}
}  // namespace

template <>
void attention_fwd(Cpu, const AttentionFwd<float>& a) {
  const std::int64_t spans = spans_per_head(a);
  // Whole tiles of either height (6 or 12 rows), so that only the last span pads.
  const std::int64_t span = ((a.queries + spans - 1) / spans + 11) / 12 * 12;
  parallel_for(a.batch * a.heads * spans, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t head = task / spans, first = task % spans * span;
      if (first >= a.queries) continue;
      HWY_DYNAMIC_DISPATCH(forward_span)
      (a, head / a.heads, head % a.heads, first, std::min(span, a.queries - first));
    }
  });
}

template <>
void attention_fwd(Cpu, const AttentionFwd<double>& a) {
  rowwise::attention_fwd(a);
}

}  // namespace onpa::kernels
#endif  // HWY_ONCE
