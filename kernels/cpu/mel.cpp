#include "kernels/mel.h"

#include <algorithm>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "kernels/cpu/mel_tables.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/mel.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h, which re-includes this file once per target.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/cpu/mel_fft.h"

HWY_BEFORE_NAMESPACE();
namespace onpa::kernels::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kGroupFrames = static_cast<std::int64_t>(kLanes);
constexpr std::int64_t kPad = kMelFft / 2;  // samples reflected on either side

// Square blocks of samples are transposed in registers of at most 8 lanes.
using D8 = hn::CappedTag<float, 8>;
using V8 = hn::Vec<D8>;
constexpr std::int64_t kSquare = static_cast<std::int64_t>(hn::MaxLanes(D8()));

// Per-thread scratch: about 62 KB with AVX2, so a group of frames never leaves L2.
struct Scratch {
  hwy::AlignedFreeUniquePtr<float[]> points = hwy::AllocateAligned<float>(kPointsFloats);
  hwy::AlignedFreeUniquePtr<float[]> power = hwy::AllocateAligned<float>(kPowerFloats);
  std::vector<float> samples;
};

// y[i] = x[i + 1] - c x[i] for i in [first, first + count), reflected at 0 and at samples - 2; 0
// beyond the reflection, which only the unused lanes of a last group reach.
HWY_ATTR void pre_emphasise(const float* HWY_RESTRICT x, std::int64_t samples, float c,
                            std::int64_t first, std::int64_t count, float* HWY_RESTRICT y) {
  const D d;
  const std::int64_t length = samples - 1;
  const auto at = [&](std::int64_t i) {
    if (i < 0) i = -i;
    if (i >= length) i = 2 * (length - 1) - i;
    return i < 0 ? 0.0f : x[i + 1] - c * x[i];
  };
  const std::int64_t inner_begin = std::clamp<std::int64_t>(-first, 0, count);
  const std::int64_t inner_end = std::clamp<std::int64_t>(length - first, inner_begin, count);
  std::int64_t i = 0;
  for (; i < inner_begin; ++i) y[i] = at(first + i);
  const V vc = hn::Set(d, c);
  for (; i + kGroupFrames <= inner_end; i += kGroupFrames) {
    const float* p = x + first + i;
    hn::StoreU(hn::NegMulAdd(vc, hn::LoadU(d, p), hn::LoadU(d, p + 1)), d, y + i);
  }
  for (; i < count; ++i) y[i] = at(first + i);
}

// The scalar target has no shuffles and needs none.
#if HWY_TARGET == HWY_SCALAR
template <int kStep>
HWY_INLINE void transpose_square(V8*) {}
#else
template <int kStep>
HWY_INLINE void transpose_square(V8* HWY_RESTRICT r) {
  const D8 d;
  const hn::Repartition<double, D8> dd;
  // Within 128-bit blocks, four rows at a time.
  HWY_UNROLL(2)
  for (int g = 0; g < kStep; g += 4) {
    const auto ab_low = hn::BitCast(dd, hn::InterleaveLower(d, r[g], r[g + 1]));
    const auto cd_low = hn::BitCast(dd, hn::InterleaveLower(d, r[g + 2], r[g + 3]));
    const auto ab_high = hn::BitCast(dd, hn::InterleaveUpper(d, r[g], r[g + 1]));
    const auto cd_high = hn::BitCast(dd, hn::InterleaveUpper(d, r[g + 2], r[g + 3]));
    r[g] = hn::BitCast(d, hn::InterleaveLower(dd, ab_low, cd_low));
    r[g + 1] = hn::BitCast(d, hn::InterleaveUpper(dd, ab_low, cd_low));
    r[g + 2] = hn::BitCast(d, hn::InterleaveLower(dd, ab_high, cd_high));
    r[g + 3] = hn::BitCast(d, hn::InterleaveUpper(dd, ab_high, cd_high));
  }
  if constexpr (kStep == 8) {
    HWY_UNROLL(4)
    for (int k = 0; k < 4; ++k) {
      const V8 low = r[k], high = r[k + 4];
      r[k] = hn::ConcatLowerLower(d, high, low);
      r[k + 4] = hn::ConcatUpperUpper(d, high, low);
    }
  }
}
#endif

// Windows the frames of a group (starts `hop` apart in `samples`) and lays them out one frame per
// lane.
HWY_ATTR void load_frames(const MelTables& tables, const float* HWY_RESTRICT samples,
                          std::int64_t hop, float* HWY_RESTRICT points) {
  const D d;
  const D8 d8;
  for (std::int64_t i = 0; i < kMelFft; i += 2) {
    if (i >= tables.begin && i < tables.end) continue;
    float* p = points + point_offset(static_cast<std::size_t>(i) / 2);
    hn::Store(hn::Zero(d), d, p);
    hn::Store(hn::Zero(d), d, p + kLanes);
  }
  for (std::int64_t i = tables.begin; i < tables.end; i += kSquare) {
    const V8 window = hn::LoadU(d8, tables.window + i);
    float* p = points + point_offset(static_cast<std::size_t>(i) / 2);
    for (std::int64_t lane = 0; lane < kGroupFrames; lane += kSquare) {
      V8 r[kSquare];  // unrolled, so that it lives in registers
      HWY_UNROLL(8)
      for (std::int64_t f = 0; f < kSquare; ++f) {
        r[f] = hn::Mul(window, hn::LoadU(d8, samples + (lane + f) * hop + i - tables.begin));
      }
      transpose_square<kSquare>(r);
      HWY_UNROLL(8)
      for (std::int64_t s = 0; s < kSquare; ++s) hn::Store(r[s], d8, p + s * kGroupFrames + lane);
    }
  }
}

// Mel bands of a group from its power spectra, log, masks and scale, to y at frame t0.
HWY_ATTR void store_bands(const MelFwd<>& a, std::int64_t clip, std::int64_t t0,
                          const float* HWY_RESTRICT power) {
  const D d;
  const MelBankView& bank = a.bank;
  const MelMask mask = a.mask ? a.mask[clip] : MelMask{};
  const std::int64_t used = std::min(kGroupFrames, a.frames - t0);
  const V log_offset = hn::Set(d, a.log_offset), mean = hn::Set(d, a.mean),
          scale = hn::Set(d, 1.0f / a.std);
  const V frame = hn::Iota(d, static_cast<float>(t0));
  const auto masked = hn::And(hn::Ge(frame, hn::Set(d, static_cast<float>(mask.t0))),
                              hn::Lt(frame, hn::Set(d, static_cast<float>(mask.t0 + mask.t_len))));
  HWY_ALIGN float last[kLanes];
  for (std::int64_t m = 0; m < a.mels; ++m) {
    V value = hn::Zero(d);
    if (m < mask.f0 || m >= mask.f0 + mask.f_len) {
      const float* weight = bank.weight + bank.offset[m];
      const std::int64_t bins = bank.offset[m + 1] - bank.offset[m];
      const float* p = power + bank.first[m] * kGroupFrames;
      V s0 = hn::Zero(d), s1 = hn::Zero(d);
      std::int64_t k = 0;
      for (; k + 2 <= bins; k += 2) {
        s0 = hn::MulAdd(hn::Set(d, weight[k]), hn::Load(d, p + k * kGroupFrames), s0);
        s1 = hn::MulAdd(hn::Set(d, weight[k + 1]), hn::Load(d, p + (k + 1) * kGroupFrames), s1);
      }
      if (k < bins) s0 = hn::MulAdd(hn::Set(d, weight[k]), hn::Load(d, p + k * kGroupFrames), s0);
      value = hn::IfThenZeroElse(masked, hn::Log(d, hn::Add(hn::Add(s0, s1), log_offset)));
    }
    value = hn::Mul(hn::Sub(value, mean), scale);
    float* y = a.y + (clip * a.mels + m) * a.frames + t0;
    if (used == kGroupFrames) {
      hn::StoreU(value, d, y);
    } else {
      hn::Store(value, d, last);
      std::copy_n(last, used, y);
    }
  }
}

HWY_ATTR void mel_groups(const MelFwd<>& a, std::int64_t begin, std::int64_t end) {
  thread_local Scratch scratch;
  const MelTables& tables = mel_tables(a.win);
  const std::int64_t groups = (a.frames + kGroupFrames - 1) / kGroupFrames;
  const std::int64_t span = (kGroupFrames - 1) * a.hop + tables.end - tables.begin;
  scratch.samples.resize(static_cast<std::size_t>(span));
  for (std::int64_t g = begin; g < end; ++g) {
    const std::int64_t clip = g / groups, t0 = g % groups * kGroupFrames;
    pre_emphasise(a.wave + clip * a.samples, a.samples, a.preemphasis,
                  t0 * a.hop + tables.begin - kPad, span, scratch.samples.data());
    load_frames(tables, scratch.samples.data(), a.hop, scratch.points.get());
    transform(tables, scratch.points.get());
    split_power(tables, scratch.points.get(), scratch.power.get());
    store_bands(a, clip, t0, scratch.power.get());
  }
}

void mel_float(const MelFwd<>& a) {
  const std::int64_t groups = (a.frames + kGroupFrames - 1) / kGroupFrames;
  constexpr std::int64_t kGrain = 128 / kGroupFrames;  // frames per task: tens of microseconds
  parallel_for(a.batch * groups, kGrain,
               [&](std::int64_t begin, std::int64_t end) { mel_groups(a, begin, end); });
}

}  // namespace
}  // namespace onpa::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onpa::kernels {

HWY_EXPORT(mel_float);

void mel_fwd(Cpu, const MelFwd<>& a) {
  if (a.batch > 0) HWY_DYNAMIC_DISPATCH(mel_float)(a);
}

}  // namespace onpa::kernels
#endif  // HWY_ONCE
