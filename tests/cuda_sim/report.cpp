// Who is where: the words of errors.
#include <cstdio>

#include "tests/cuda_sim/engine.h"
#include "tests/cuda_sim/sanitizers.h"

extern "C" {
// UndefinedBehaviorSanitizer's own way to say where it is, and its hook at a report.
const char* __ubsan_default_options() {
  return "print_stacktrace=1";
}
void __ubsan_on_report() {
  sim::detail::death_note();
}
}

namespace sim::detail {

namespace {

std::string text(uint3 p) {
  return "(" + std::to_string(p.x) + ", " + std::to_string(p.y) + ", " + std::to_string(p.z) + ")";
}

std::string place(Site site) {
  return std::string(site.file) + ":" + std::to_string(site.line);
}

std::string doing(const Thread& thread) {
  switch (thread.state) {
    case State::kUnstarted:
      return "not started";
    case State::kReady:
      return "can run";
    case State::kAtBarrier:
      return std::string("wait at ") + name_of(thread.barrier) + " " + place(thread.site);
    case State::kInWarpOp: {
      char mask[16];
      std::snprintf(mask, sizeof(mask), "0x%08x", thread.call.mask);
      return std::string("wait in ") + name_of(thread.call.op) + " mask " + mask + " " +
             place(thread.site);
    }
    case State::kDone:
      return "ended";
  }
  return "";
}

}  // namespace

void death_note() {
  const Engine& e = engine();
  if (e.current == nullptr) return;
  std::fprintf(stderr, "CUDA simulator:%s\n", where_is(*e.current).c_str());
}

std::string where_is(const Thread& thread) {
  return "\n  in block " + text(thread.block->position) + " thread " + text(thread.position) +
         " of the launch at " + place(engine().launch->site) + "; " + schedule_name();
}

std::string waiting_table() {
  std::string table;
  for (const Block& block : engine().blocks) {
    if (block.live == 0) continue;
    table += "  block " + text(block.position) + "\n";
    for (std::size_t first = 0; first < block.threads.size();) {
      const std::string what = doing(block.threads[first]);
      std::size_t last = first;
      while (last + 1 < block.threads.size() && doing(block.threads[last + 1]) == what) ++last;
      table +=
          "    threads " + std::to_string(first) + "-" + std::to_string(last) + ": " + what + "\n";
      first = last + 1;
    }
  }
  if (!table.empty()) table.pop_back();
  return table;
}

const char* name_of(WarpOp op) {
  constexpr const char* kNames[] = {
      "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",    "__shfl_down_sync",
      "__shfl_xor_sync",   "__ballot_sync",     "__any_sync",        "__all_sync",
      "__match_any_sync",  "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync",
      "__reduce_min_sync", "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync",
      "__reduce_xor_sync", "ldmatrix_x4",       "ldmatrix_x4_trans", "mma_bf16"};
  return kNames[static_cast<int>(op)];
}

const char* name_of(Barrier kind) {
  constexpr const char* kNames[] = {"__syncthreads", "__syncthreads_and", "__syncthreads_or",
                                    "__syncthreads_count"};
  return kNames[static_cast<int>(kind)];
}

void install_death_note() {
  static bool installed = false;
  if (installed) return;
  installed = true;
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(death_note);
}

}  // namespace sim::detail
