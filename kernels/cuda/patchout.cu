// Patchout drawn on the device. The shuffle is sequential by its nature, so one thread does it;
// the random words are made, and the result is put in order, by all.
#include "kernels/cuda/launch.cuh"
#include "kernels/error.h"
#include "kernels/patch.h"
#include "kernels/philox.h"

namespace onpa::kernels {
namespace {

using gpu::kWarp;

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr std::int64_t kMaxCells = 16384;
constexpr int kWords = 4096;  // of the sequence, made ahead of a shuffle

using Index = std::uint16_t;
static_assert(kMaxCells <= 65536);

// Philox's sequence from word `next` on, of which words [first, first + count) lie in memory.
struct Words {
  RngKey key;
  const std::uint32_t* made;
  std::uint32_t first, count, next;

  GPU_FN std::uint32_t next_u32() {
    const std::uint32_t i = next++;
    if (i - first < count) return made[i - first];
    std::uint32_t block[4];
    philox_block(key, i / 4, block);
    return block[i % 4];
  }
};

struct Scratch {
  Index* order;          // (cells)
  std::uint32_t* words;  // (kWords)
  unsigned char* mark;   // (cells); in the place of the words, which are used up by then
  std::uint32_t* used;   // (1): words of the sequence
  int* warp_counts;      // (kWarps)
};

// Philox::shuffle of 0 .. n - 1 in s.order.
GPU_FN void shuffle(const RngKey& key, int n, const Scratch& s) {
  const std::uint32_t first = *s.used / 4 * 4;
  for (int i = threadIdx.x; i < n; i += kThreads) s.order[i] = static_cast<Index>(i);
  // Enough for n draws; more are needed where a draw is rejected.
  // mutation to (kWords / 4): saves words that nobody draws
  const int blocks = min(kWords / 4, n / 4 + 2);
  for (int i = threadIdx.x; i < blocks; i += kThreads) {
    philox_block(key, first / 4 + static_cast<std::uint32_t>(i), s.words + 4 * i);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    Words words{key, s.words, first, static_cast<std::uint32_t>(4 * blocks), *s.used};
    for (int i = n; i > 1; --i) {
      const std::uint32_t j = below(words, static_cast<std::uint32_t>(i));
      const Index kept = s.order[j];
      s.order[j] = s.order[i - 1];
      s.order[i - 1] = kept;
    }
    *s.used = words.next;
  }
  __syncthreads();
}

// Calls put(position, number) for `count` of the numbers 0 .. n - 1 in ascending order: those that
// the CPU chooses. All threads call.
template <class Put>
GPU_FN void choose(const RngKey& key, int n, int count, const Scratch& s, const Put& put) {
  if (count == n) {
    for (int i = threadIdx.x; i < n; i += kThreads) put(i, i);
    __syncthreads();
    return;
  }
  shuffle(key, n, s);
  for (int i = threadIdx.x; i < n; i += kThreads) s.mark[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kThreads) s.mark[s.order[i]] = 1;
  __syncthreads();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int before = 0;  // marks in front of this round
  for (int base = 0; base < n; base += kThreads) {
    const int i = base + static_cast<int>(threadIdx.x);
    const bool marked = i < n && s.mark[i] != 0;
    const unsigned ballot = __ballot_sync(gpu::kFullMask, marked);
    if (lane == 0) s.warp_counts[warp] = __popc(ballot);
    __syncthreads();
    int position = before + __popc(ballot & ((1u << lane) - 1));
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) position += s.warp_counts[w];
      before += s.warp_counts[w];
    }
    if (marked) put(position, i);
    __syncthreads();
  }
}

struct PutIndex {
  Index* list;
  GPU_FN void operator()(int position, int number) const {
    list[position] = static_cast<Index>(number);
  }
};
struct PutCell {
  const Index *rows, *columns;
  int kept_columns, grid_t;
  std::int32_t* keep;
  GPU_FN void operator()(int position, int number) const {
    keep[position] = rows[number / kept_columns] * grid_t + columns[number % kept_columns];
  }
};

std::size_t smem_bytes(const DrawPatchout& a) {
  return gpu::carved_bytes<Index>(static_cast<std::size_t>(a.grid_f * a.grid_t)) +
         gpu::carved_bytes<Index>(static_cast<std::size_t>(a.grid_t)) +
         gpu::carved_bytes<Index>(static_cast<std::size_t>(a.grid_f)) +
         gpu::carved_bytes<std::uint32_t>(kWords);
}

__global__ void __launch_bounds__(kThreads) draw_patchout_kernel(DrawPatchout a) {
  GPU_DYN_SHARED(memory);
  GPU_SHARED(warp_counts, int[kWarps]);
  GPU_SHARED(used, std::uint32_t[1]);
  const int grid_f = static_cast<int>(a.grid_f), grid_t = static_cast<int>(a.grid_t);
  gpu::Carver carve{memory};
  auto* order = carve.take<Index>(static_cast<std::size_t>(grid_f * grid_t));
  auto* columns = carve.take<Index>(static_cast<std::size_t>(grid_t));
  auto* rows = carve.take<Index>(static_cast<std::size_t>(grid_f));
  auto* words = carve.take<std::uint32_t>(kWords);
  const Scratch scratch{order, words, reinterpret_cast<unsigned char*>(words), used, warp_counts};

  const std::uint64_t step = a.state != nullptr ? a.state->step : a.step;
  const RngKey key{.seed = a.seed, .stream = kStreamPatchout, .step = step};
  if (threadIdx.x == 0) {
    *used = 0;
    if (a.time_offset != nullptr) {
      Philox rng({.seed = a.seed, .stream = kStreamTimeOffset, .step = step});
      const auto offsets = static_cast<std::uint32_t>(a.table_t - a.grid_t + 1);
      *a.time_offset = static_cast<std::int32_t>(rng.below(offsets));
    }
  }
  __syncthreads();
  const int kept_t = static_cast<int>(a.kept_columns()), kept_f = static_cast<int>(a.kept_rows());
  choose(key, grid_t, kept_t, scratch, PutIndex{columns});
  choose(key, grid_f, kept_f, scratch, PutIndex{rows});
  choose(key, kept_t * kept_f, static_cast<int>(a.kept()), scratch,
         PutCell{rows, columns, kept_t, grid_t, a.keep});
}

}  // namespace

void draw_patchout(Cuda dev, const DrawPatchout& a) {
  if (a.grid_f * a.grid_t > kMaxCells) {
    fail(ExitCode::kConfig, "patchout: a grid of ", a.grid_f, " x ", a.grid_t,
         " patches, want at most ", kMaxCells, " in all on the GPU");
  }
  gpu::launch(draw_patchout_kernel, 1, kThreads, smem_bytes(a), gpu::stream_of(dev), a);
}

}  // namespace onpa::kernels
