// Patch embedding with patchout on the GPU, both directions: passt-s, 30 s clips, N = 2,155. FLOPs
// are those of the products with the kept patches.
#include "bench/cuda/gpu.h"
#include "kernels/patch.h"

namespace onpa::bench {
namespace {

constexpr std::int64_t kMels = 128, kFrames = 3000, kWidth = 768, kPatch = 16, kStride = 10;
constexpr std::int64_t kGridF = 12, kGridT = 299, kTable = 300, kKept = 2153;

struct Problem {
  std::int64_t batch;
  DeviceBuffer<bf16> x, weight, bias, cls, dist, prefix_pos, freq_pos, time_pos, y, dy;
  DeviceBuffer<bf16> dweight, dbias, dcls, ddist, dprefix_pos, dfreq_pos, dtime_pos;
  DeviceBuffer<std::int32_t> keep, time_offset;
  explicit Problem(std::int64_t clips)
      : batch(clips),
        x(batch * kMels * kFrames, 1),
        weight(kWidth * kPatch * kPatch, 2),
        bias(kWidth, 3),
        cls(kWidth, 4),
        dist(kWidth, 5),
        prefix_pos(2 * kWidth, 6),
        freq_pos(kWidth * kGridF, 7),
        time_pos(kWidth * kTable, 8),
        y(batch * (kKept + 2) * kWidth),
        dy(batch * (kKept + 2) * kWidth, 9),
        dweight(weight.size()),
        dbias(kWidth),
        dcls(kWidth),
        ddist(kWidth),
        dprefix_pos(2 * kWidth),
        dfreq_pos(freq_pos.size()),
        dtime_pos(time_pos.size()),
        keep(kKept),
        time_offset(1) {
    draw();
  }
  void draw() const {
    kernels::draw_patchout(timed_stream(), {.keep = keep.data(),
                                            .time_offset = time_offset.data(),
                                            .grid_f = kGridF,
                                            .grid_t = kGridT,
                                            .table_t = kTable,
                                            .drop_unstructured = kGridF * kGridT - kKept,
                                            .seed = 1});
  }
  kernels::PatchInput<bf16> input() const {
    return {.x = x.data(),
            .keep = keep.data(),
            .keep_stride = 0,
            .batch = batch,
            .mels = kMels,
            .frames = kFrames,
            .width = kWidth,
            .patch_f = kPatch,
            .patch_t = kPatch,
            .stride_f = kStride,
            .stride_t = kStride,
            .grid_f = kGridF,
            .grid_t = kGridT,
            .table_t = kTable,
            .time_offset = 0,
            .kept = kKept,
            .time_offset_device = time_offset.data()};
  }
  double flops() const {
    return 2.0 * static_cast<double>(batch * kKept * kWidth * kPatch * kPatch);
  }
};

void draw_patchout(benchmark::State& state) {
  const Problem p(1);
  time_on_gpu(state, [&] { p.draw(); });
}

void patch_tokens_fwd(benchmark::State& state) {
  const Problem p(state.range(0));
  kernels::PatchTokensFwd<bf16> args{.in = p.input(),
                                     .weight = p.weight.data(),
                                     .bias = p.bias.data(),
                                     .cls = p.cls.data(),
                                     .dist = p.dist.data(),
                                     .prefix_pos = p.prefix_pos.data(),
                                     .freq_pos = p.freq_pos.data(),
                                     .time_pos = p.time_pos.data(),
                                     .y = p.y.data()};
  const DeviceBuffer<char> workspace(
      static_cast<std::int64_t>(kernels::patch_tokens_fwd_workspace_bytes(timed_stream(), args)));
  args.workspace = workspace.data();
  time_on_gpu(state, [&] { kernels::patch_tokens_fwd(timed_stream(), args); });
  report_flops(state, p.flops());
}

void patch_tokens_bwd(benchmark::State& state) {
  using kernels::GradMode;
  const Problem p(state.range(0));
  kernels::PatchTokensBwd<bf16> args{.in = p.input(),
                                     .dy = p.dy.data(),
                                     .dweight = p.dweight.data(),
                                     .dbias = p.dbias.data(),
                                     .dcls = p.dcls.data(),
                                     .ddist = p.ddist.data(),
                                     .dprefix_pos = p.dprefix_pos.data(),
                                     .dfreq_pos = p.dfreq_pos.data(),
                                     .dtime_pos = p.dtime_pos.data(),
                                     .dweight_mode = GradMode::kAssign,
                                     .dbias_mode = GradMode::kAssign,
                                     .dcls_mode = GradMode::kAssign,
                                     .ddist_mode = GradMode::kAssign,
                                     .dprefix_pos_mode = GradMode::kAssign,
                                     .dfreq_pos_mode = GradMode::kAssign,
                                     .dtime_pos_mode = GradMode::kAssign};
  const DeviceBuffer<char> workspace(
      static_cast<std::int64_t>(kernels::patch_tokens_bwd_workspace_bytes(timed_stream(), args)));
  args.workspace = workspace.data();
  time_on_gpu(state, [&] { kernels::patch_tokens_bwd(timed_stream(), args); });
  report_flops(state, p.flops());
}

BENCHMARK(draw_patchout)->Unit(benchmark::kMicrosecond)->UseManualTime();
BENCHMARK(patch_tokens_fwd)
    ->ArgName("batch")
    ->Arg(8)
    ->Arg(48)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();
BENCHMARK(patch_tokens_bwd)
    ->ArgName("batch")
    ->Arg(8)
    ->Arg(48)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

}  // namespace
}  // namespace onpa::bench

int main(int argc, char** argv) {
  return onpa::bench::run_benchmarks(argc, argv);
}
