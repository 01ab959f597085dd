#include "kernels/mel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/cuda/mel_cufft.h"
#include "kernels/error.h"
#include "kernels/scalar.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/mel_cases.h"
#include "tests/support/bf16_rule.h"

namespace onpa::kernels {
namespace {

using testing::DeviceArray;
using testing::normal_values;
using testing::same_bits;

enum class Path { kFused, kCufft };

// Frames that cuFFT transforms at a time here: few, so that small tests have several chunks.
constexpr std::int64_t kChunk = 8;

template <class Out = float, class In = float>
std::vector<Out> run(Path path, const std::vector<In>& wave, std::int64_t batch,
                     const MelSetting& s = {}, const std::vector<MelMask>& masks = {},
                     int offset = 0) {
  const MelBank bank = mel_bank_of(s);
  auto args = mel_args<In, Out>(s, batch, static_cast<std::int64_t>(wave.size()) / batch);
  const DeviceArray<In> x(wave, offset);
  const DeviceArray<Out> y(batch * s.mels * args.frames, offset);
  const DeviceArray<std::int32_t> first(bank.first), offsets(bank.offset);
  const DeviceArray<float> weight(bank.weight);
  const DeviceArray<MelMask> mask(masks);
  args.wave = x.data();
  args.y = y.data();
  args.bank = {first.data(), offsets.data(), weight.data()};
  args.mask = masks.empty() ? nullptr : mask.data();
  const DeviceArray<char> workspace(
      static_cast<std::int64_t>(path == Path::kCufft ? mel_cufft_workspace_bytes(args, kChunk)
                                                     : mel_fwd_workspace_bytes(Cuda{}, args)));
  args.workspace = workspace.data();
  if (path == Path::kCufft) {
    mel_cufft(Cuda{}, args, kChunk);
  } else {
    mel_fwd(Cuda{}, args);
  }
  return y.to_host();
}

std::vector<float> noise(std::int64_t samples, std::uint64_t seed) {
  return normal_values<float>(samples, seed, 0.2);
}

void check(Path path, const std::vector<float>& wave, const MelSetting& s) {
  SCOPED_TRACE(::testing::Message() << wave.size() << " samples, win " << s.win << " hop " << s.hop
                                    << " mels " << s.mels);
  std::optional<std::vector<float>> first;
  testing::for_schedules([&] {
    const std::vector<float> got = run(path, wave, 1, s);
    if (first) {
      EXPECT_TRUE(same_bits(got, *first)) << "bits depend on the schedule";
      return;
    }
    EXPECT_LT(max_error(got, mel_reference(wave, s)), 1);
    first = got;
  });
}

class CudaMel : public ::testing::TestWithParam<Path> {};
INSTANTIATE_TEST_SUITE_P(Paths, CudaMel, ::testing::Values(Path::kFused, Path::kCufft),
                         [](const auto& info) {
                           return info.param == Path::kFused ? "Fused" : "Cufft";
                         });

TEST_P(CudaMel, MatchesADoubleReference) {
  for (const std::int64_t samples : kMelSamples) {
    check(GetParam(), noise(samples, static_cast<std::uint64_t>(samples)), {});
  }
}

TEST_P(CudaMel, HonoursEverySetting) {
  for (const MelSetting& s : kMelSettings) check(GetParam(), noise(kMelSettingSamples, 3), s);
  // One frame a block; and the shortest windows, where all but a few points are 0.
  check(GetParam(), noise(9001, 4), {.hop = 8000});
  check(GetParam(), noise(700, 5), {.win = 3, .hop = 97, .mels = 5});
}

TEST_P(CudaMel, ABatchIsItsClipsOneByOne) {
  constexpr std::int64_t kSamples = 7001, kBatch = 3;
  const auto wave = noise(kSamples * kBatch, 4);
  const auto together = run(GetParam(), wave, kBatch);
  const std::size_t size = together.size() / kBatch;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    const auto alone =
        run(GetParam(),
            std::vector<float>(wave.begin() + b * kSamples, wave.begin() + (b + 1) * kSamples), 1);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + b * size)) << b;
  }
}

TEST_P(CudaMel, SixteenBitsInAndOut) {
  std::vector<std::int16_t> pcm;
  for (const float v : noise(5443, 6)) {
    pcm.push_back(static_cast<std::int16_t>(std::lround(std::clamp(v, -1.0f, 0.999f) * 32768)));
  }
  pcm[100] = std::numeric_limits<std::int16_t>::min();
  pcm[101] = std::numeric_limits<std::int16_t>::max();
  std::vector<float> wave;
  for (const std::int16_t v : pcm) wave.push_back(static_cast<float>(v) / 32768);
  const std::vector<float> want = run(GetParam(), wave, 1);
  EXPECT_EQ(run(GetParam(), pcm, 1), want);
  std::vector<bf16> rounded;
  for (const float v : want) rounded.emplace_back(v);
  EXPECT_TRUE(same_bits(run<bf16>(GetParam(), wave, 1), rounded));
  EXPECT_TRUE(same_bits(run<bf16>(GetParam(), pcm, 1), rounded));
}

TEST_P(CudaMel, AlignmentDoesNotMatter) {
  const auto wave = noise(3001, 7);
  EXPECT_EQ(run(GetParam(), wave, 1, {}, {}, 1), run(GetParam(), wave, 1));
  const std::vector<std::int16_t> pcm(3001, 9);
  EXPECT_TRUE(same_bits(run<bf16>(GetParam(), pcm, 1, {}, {}, 3), run<bf16>(GetParam(), pcm, 1)));
}

TEST_P(CudaMel, SilenceIsTheLogOffset) {
  const double want = (std::log(1e-5) + 4.5) / 5;
  for (const float v : run(GetParam(), std::vector<float>(3333, 0.0f), 1))
    ASSERT_NEAR(v, want, 1e-6);
}

TEST_P(CudaMel, MasksBecomeZeroBeforeNormalisation) {
  constexpr std::int64_t kSamples = 6401, kFrames = 21;
  const auto wave = noise(3 * kSamples, 5);
  // The frames of the mask lie in both blocks of the clip.
  const std::vector<MelMask> masks = {
      {.f0 = 3, .f_len = 11, .t0 = 14, .t_len = 5}, {}, {.f0 = 127, .f_len = 1}};
  const auto plain = run(GetParam(), wave, 3), masked = run(GetParam(), wave, 3, {}, masks);
  for (int b = 0; b < 3; ++b) {
    const MelMask& k = masks[static_cast<std::size_t>(b)];
    for (int m = 0; m < 128; ++m) {
      for (int t = 0; t < kFrames; ++t) {
        const std::size_t i = static_cast<std::size_t>((b * 128 + m) * kFrames + t);
        const bool in = (m >= k.f0 && m < k.f0 + k.f_len) || (t >= k.t0 && t < k.t0 + k.t_len);
        if (in) {
          ASSERT_NEAR(masked[i], 0.9f, 1e-6) << b << "," << m << "," << t;
        } else {
          ASSERT_EQ(masked[i], plain[i]) << b << "," << m << "," << t;
        }
      }
    }
  }
}

// A sample that is not a number spoils the frames whose window reaches it, no others: of the 1024
// points of frames 14 and 17 it is one behind the window and one in front of it.
TEST_P(CudaMel, NanStaysInItsFrames) {
  constexpr std::int64_t kAt = 4960;
  auto wave = noise(12801, 8);
  const auto plain = run(GetParam(), wave, 1);
  wave[kAt] = NAN;
  const auto spoiled = run(GetParam(), wave, 1);
  const std::int64_t frames = static_cast<std::int64_t>(plain.size()) / 128;
  for (std::int64_t t = 0; t < frames; ++t) {
    // Pre-emphasised samples kAt - 1 and kAt; a frame is 800 samples around t * 320.
    const bool in = kAt - 1 < t * 320 + 400 && kAt >= t * 320 - 400;
    for (std::int64_t m = 0; m < 128; ++m) {
      const std::size_t i = static_cast<std::size_t>(m * frames + t);
      if (in) {
        ASSERT_TRUE(std::isnan(spoiled[i])) << m << "," << t;
      } else {
        ASSERT_EQ(spoiled[i], plain[i]) << m << "," << t;
      }
    }
  }
}

TEST_P(CudaMel, EmptyBatch) {
  const auto args = mel_args({}, 0, 1000);
  EXPECT_EQ(mel_cufft_workspace_bytes(args), 0u);
  GetParam() == Path::kFused ? mel_fwd(Cuda{}, args) : mel_cufft(Cuda{}, args);
}

// Both ways have the same points, weights and order of sums: only the transforms round differently.
TEST(CudaMelPaths, AgreeWithEachOther) {
  const auto wave = noise(3 * 5443, 9);
  const auto fused = run(Path::kFused, wave, 3), cufft = run(Path::kCufft, wave, 3);
  ASSERT_EQ(fused.size(), cufft.size());
  for (std::size_t i = 0; i < fused.size(); ++i) ASSERT_NEAR(fused[i], cufft[i], 1e-4) << i;
}

TEST(CudaMelPaths, TheChunkDoesNotMatter) {
  const MelSetting s;
  const auto wave = noise(5443, 10);
  const MelBank bank = mel_bank_of(s);
  const DeviceArray<float> x(wave), weight(bank.weight);
  const DeviceArray<std::int32_t> first(bank.first), offsets(bank.offset);
  auto args = mel_args(s, 1, 5443);
  args.wave = x.data();
  args.bank = {first.data(), offsets.data(), weight.data()};
  const auto want = run(Path::kCufft, wave, 1);
  for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{16}, kMelChunkFrames}) {
    const DeviceArray<float> y(s.mels * args.frames);
    const auto bytes = static_cast<std::int64_t>(mel_cufft_workspace_bytes(args, chunk));
    EXPECT_LE(bytes, chunk * 4104);
    const DeviceArray<char> workspace(bytes);
    args.y = y.data();
    args.workspace = workspace.data();
    mel_cufft(Cuda{}, args, chunk);
    EXPECT_TRUE(same_bits(y.to_host(), want)) << chunk;
  }
}

// What the fused kernel has no shared memory for.
TEST(CudaMelPaths, ManyBandsGoThroughCufft) {
  constexpr std::int64_t kMost = 572;  // of the fused kernel at the default window and hop
  EXPECT_EQ(mel_fwd_workspace_bytes(Cuda{}, mel_args({.mels = kMost}, 8, 960000)), 0u);
  // Bounded, however many clips there are.
  for (const std::int64_t batch : {8, 800}) {
    EXPECT_EQ(mel_fwd_workspace_bytes(Cuda{}, mel_args({.mels = kMost + 1}, batch, 960000)),
              static_cast<std::size_t>(kMelChunkFrames) * 4104);
  }
  const auto wave = noise(2001, 11);
  for (const std::int64_t mels : {kMost, kMost + 1, std::int64_t{1300}}) {
    const MelSetting s{.mels = mels};
    EXPECT_LT(max_error(run(Path::kFused, wave, 1, s), mel_reference(wave, s)), 1) << mels;
  }
  auto args = mel_args({.mels = kMost + 1}, 1, 2001);
  EXPECT_THROW(mel_fwd(Cuda{}, args), Error) << "no workspace";
}

// A replayed graph has no host code: what the plan needs was made before.
TEST(CudaMelPaths, CufftRunsInAGraph) {
  const MelSetting s;
  const auto wave = noise(2001, 12);
  const auto want = run(Path::kCufft, wave, 1);
  const MelBank bank = mel_bank_of(s);
  const DeviceArray<float> x(wave), weight(bank.weight);
  const DeviceArray<std::int32_t> first(bank.first), offsets(bank.offset);
  auto args = mel_args(s, 1, 2001);
  const DeviceArray<float> y(s.mels * args.frames);
  const DeviceArray<char> workspace(
      static_cast<std::int64_t>(mel_cufft_workspace_bytes(args, kChunk)));
  args.wave = x.data();
  args.y = y.data();
  args.bank = {first.data(), offsets.data(), weight.data()};
  args.workspace = workspace.data();
  cudaStream_t stream = nullptr;
  ONPA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  ONPA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  mel_cufft(Cuda{stream}, args, kChunk);
  cudaGraph_t graph = nullptr;
  ONPA_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t instance = nullptr;
  ONPA_CUDA_CHECK(cudaGraphInstantiate(&instance, graph, 0));
  ONPA_CUDA_CHECK(cudaGraphDestroy(graph));
  ONPA_CUDA_CHECK(cudaGraphLaunch(instance, stream));
  ONPA_CUDA_CHECK(cudaStreamSynchronize(stream));
  EXPECT_TRUE(same_bits(y.to_host(), want));
  ONPA_CUDA_CHECK(cudaGraphExecDestroy(instance));
  ONPA_CUDA_CHECK(cudaStreamDestroy(stream));
}

}  // namespace
}  // namespace onpa::kernels
