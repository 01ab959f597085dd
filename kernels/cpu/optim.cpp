#include "kernels/optim.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/cpu/adamw.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optim.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef ONPA_KERNELS_CPU_OPTIM_SHARED
#define ONPA_KERNELS_CPU_OPTIM_SHARED
namespace onpa::kernels {
namespace {

// Elements per range handed to a thread: 64 KiB of each buffer, so that a range's four streams fit
// the second-level cache and the hand-out costs nothing beside them.
constexpr std::int64_t kChunk = 16384;
// Elements of which a partial sum of squares is kept; fixed, so the sum depends on n alone.
constexpr std::int64_t kSumChunk = 65536;
// Interleaved accumulators of a partial sum: element i of a chunk goes to i % kSumLanes.
constexpr int kSumLanes = 16;

}  // namespace
}  // namespace onpa::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;
using Vector = hn::Vec<Tag>;

// Calls update(p, q, ...) with pointers to whole vectors of each of `buffers`. The last, short one
// runs on copies in a padded scratch, so every element goes through the same vector code and its
// value does not depend on where in a range it lies. Only the first `kWritten` buffers are changed.
template <int kWritten, class Update, std::size_t kCount>
HWY_INLINE void for_vectors(std::int64_t begin, std::int64_t end, float* const (&buffers)[kCount],
                            const Update& update) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  std::int64_t i = begin;
  float* at[kCount];
  for (; i + lanes <= end; i += lanes) {
    for (std::size_t b = 0; b < kCount; ++b) at[b] = buffers[b] + i;
    update(at);
  }
  if (i == end) return;
  const std::size_t bytes = static_cast<std::size_t>(end - i) * sizeof(float);
  HWY_ALIGN float scratch[kCount][hn::MaxLanes(Tag())] = {};
  for (std::size_t b = 0; b < kCount; ++b) {
    std::memcpy(scratch[b], buffers[b] + i, bytes);
    at[b] = scratch[b];
  }
  update(at);
  for (int b = 0; b < kWritten; ++b) std::memcpy(buffers[b] + i, scratch[b], bytes);
}

void adamw_range(const AdamW& a, const AdamWScalars& s, std::int64_t begin, std::int64_t end) {
  const Tag d;
  const Vector decay = hn::Set(d, s.decay), beta2 = hn::Set(d, s.beta2);
  const Vector w1 = hn::Set(d, s.one_minus_beta1), w2 = hn::Set(d, s.one_minus_beta2);
  const Vector step_size = hn::Set(d, s.step_size), eps = hn::Set(d, s.eps);
  const Vector correction = hn::Set(d, s.inv_sqrt_correction2), scale = hn::Set(d, s.scale);
  float* const buffers[4] = {a.param, a.m, a.v, const_cast<float*>(a.grad)};
  for_vectors<3>(begin, end, buffers, [&](float* const(&at)[4]) {
    const Vector g = hn::Mul(hn::LoadU(d, at[3]), scale);
    const Vector m0 = hn::LoadU(d, at[1]);
    const Vector m = hn::MulAdd(w1, hn::Sub(g, m0), m0);
    const Vector v = hn::MulAdd(hn::Mul(w2, g), g, hn::Mul(beta2, hn::LoadU(d, at[2])));
    const Vector denominator = hn::MulAdd(hn::Sqrt(v), correction, eps);
    const Vector p = hn::Mul(hn::LoadU(d, at[0]), decay);
    hn::StoreU(m, d, at[1]);
    hn::StoreU(v, d, at[2]);
    hn::StoreU(hn::NegMulAdd(step_size, hn::Div(m, denominator), p), d, at[0]);
  });
}

void sgd_range(const Sgd& a, std::int64_t begin, std::int64_t end) {
  const Tag d;
  const Vector lr = hn::Set(d, a.lr), momentum = hn::Set(d, a.momentum);
  const Vector decay = hn::Set(d, a.weight_decay), scale = hn::Set(d, a.grad_scale);
  if (a.momentum_buffer == nullptr) {
    float* const buffers[2] = {a.param, const_cast<float*>(a.grad)};
    for_vectors<1>(begin, end, buffers, [&](float* const(&at)[2]) {
      const Vector p = hn::LoadU(d, at[0]);
      const Vector g = hn::MulAdd(decay, p, hn::Mul(hn::LoadU(d, at[1]), scale));
      hn::StoreU(hn::NegMulAdd(lr, g, p), d, at[0]);
    });
    return;
  }
  float* const buffers[3] = {a.param, a.momentum_buffer, const_cast<float*>(a.grad)};
  for_vectors<2>(begin, end, buffers, [&](float* const(&at)[3]) {
    const Vector p = hn::LoadU(d, at[0]);
    const Vector g = hn::MulAdd(decay, p, hn::Mul(hn::LoadU(d, at[2]), scale));
    const Vector moment = hn::MulAdd(momentum, hn::LoadU(d, at[1]), g);
    const Vector update = a.nesterov ? hn::MulAdd(momentum, moment, g) : moment;
    hn::StoreU(moment, d, at[1]);
    hn::StoreU(hn::NegMulAdd(lr, update, p), d, at[0]);
  });
}

// Squares of floats are exact in double, and the accumulators are kSumLanes for any vector width:
// the result is the same on every x86 target.
double sum_of_squares_chunk(const float* x, std::int64_t n) {
  const hn::CappedTag<double, kSumLanes> d;
  const hn::Rebind<float, decltype(d)> d_float;
  constexpr int kVectors = kSumLanes / static_cast<int>(hn::MaxLanes(d));
  hn::Vec<decltype(d)> sums[kVectors];
  for (int j = 0; j < kVectors; ++j) sums[j] = hn::Zero(d);
  const auto add_block = [&](const float* block) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      const auto v = hn::PromoteTo(d, hn::LoadU(d_float, block + j * hn::MaxLanes(d)));
      sums[j] = hn::MulAdd(v, v, sums[j]);
    }
  };
  std::int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) add_block(x + i);
  if (i < n) {
    float tail[kSumLanes] = {};
    std::memcpy(tail, x + i, static_cast<std::size_t>(n - i) * sizeof(float));
    add_block(tail);
  }
  HWY_ALIGN double lanes[kSumLanes];
  for (int j = 0; j < kVectors; ++j) hn::StoreU(sums[j], d, lanes + j * hn::MaxLanes(d));
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

void average_range(const AverageWeights& a, std::int64_t begin, std::int64_t end) {
  const Tag d;
  const Vector weight = hn::Set(d, a.weight);
  float* const buffers[2] = {a.average, const_cast<float*>(a.param)};
  for_vectors<1>(begin, end, buffers, [&](float* const(&at)[2]) {
    const Vector average = hn::LoadU(d, at[0]);
    hn::StoreU(hn::MulAdd(weight, hn::Sub(hn::LoadU(d, at[1]), average), average), d, at[0]);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace onpa::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {

HWY_EXPORT(adamw_range);
HWY_EXPORT(sgd_range);
HWY_EXPORT(sum_of_squares_chunk);
HWY_EXPORT(average_range);

namespace {

// `args` with what `state` replaces, and with clipping folded into grad_scale; nothing where the
// gradient's norm is not finite.
template <class Args>
std::optional<Args> resolved(const Args& args, const char* name) {
  ONPA_CHECK(args.grad_bf16 == nullptr && args.param_bf16 == nullptr, name,
             ": bf16 gradients and weights are CUDA's, this is the CPU");
  Args a = args;
  if (a.state != nullptr) {
    a.lr = a.state->lr;
    a.clip_norm = a.state->clip_norm;
    if constexpr (requires { a.step; }) {
      a.step = static_cast<std::int64_t>(a.state->optimizer_step);
    }
  }
  a.lr *= a.lr_scale;
  if (a.grad_sum_of_squares == nullptr) return a;
  const double norm =
      std::sqrt(*a.grad_sum_of_squares) * std::abs(static_cast<double>(a.grad_scale));
  if (!std::isfinite(norm)) return std::nullopt;
  if (a.clip_norm > 0) {
    a.grad_scale = static_cast<float>(a.grad_scale * std::min(1.0, a.clip_norm / (norm + 1e-6)));
  }
  return a;
}

}  // namespace

AdamWScalars adamw_scalars(const AdamW& a) {
  const double step = static_cast<double>(a.step);
  const double correction1 = 1 - std::pow(a.beta1, step);
  const double correction2 = 1 - std::pow(a.beta2, step);
  return {.decay = static_cast<float>(1 - static_cast<double>(a.lr) * a.weight_decay),
          .beta2 = static_cast<float>(a.beta2),
          .one_minus_beta1 = static_cast<float>(1 - a.beta1),
          .one_minus_beta2 = static_cast<float>(1 - a.beta2),
          .step_size = static_cast<float>(a.lr / correction1),
          .inv_sqrt_correction2 = static_cast<float>(1 / std::sqrt(correction2)),
          .eps = a.eps,
          .scale = a.grad_scale};
}

void adamw_elements(const AdamW& a, const AdamWScalars& s, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(adamw_range)(a, s, begin, end);
}

void adamw(Cpu, const AdamW& args) {
  const std::optional<AdamW> checked = resolved(args, "adamw");
  if (!checked) return;
  const AdamWScalars scalars = adamw_scalars(*checked);
  parallel_for(checked->n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    adamw_elements(*checked, scalars, begin, end);
  });
}

void sgd(Cpu, const Sgd& args) {
  const std::optional<Sgd> checked = resolved(args, "sgd");
  if (!checked) return;
  const Sgd& a = *checked;
  parallel_for(a.n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(sgd_range)(a, begin, end);
  });
}

void sum_of_squares(Cpu, const SumOfSquares& a) {
  ONPA_CHECK(a.x_bf16 == nullptr, "sum_of_squares: bf16 values are CUDA's, this is the CPU");
  const std::int64_t chunks = (a.n + kSumChunk - 1) / kSumChunk;
  std::vector<double> partial(static_cast<std::size_t>(chunks));
  parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t first = c * kSumChunk;
      partial[static_cast<std::size_t>(c)] =
          HWY_DYNAMIC_DISPATCH(sum_of_squares_chunk)(a.x + first, std::min(kSumChunk, a.n - first));
    }
  });
  double sum = 0;
  for (const double value : partial) sum += value;
  *a.out = sum;
}

void average_weights(Cpu, const AverageWeights& a) {
  parallel_for(a.n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    if (a.weight == 1.0f) {  // a copy, whatever the average held
      std::copy(a.param + begin, a.param + end, a.average + begin);
    } else {
      HWY_DYNAMIC_DISPATCH(average_range)(a, begin, end);
    }
  });
}

}  // namespace onpa::kernels
#endif
