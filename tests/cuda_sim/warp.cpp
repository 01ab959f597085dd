// Warp collectives: lanes publish what they bring, the last to arrive acts for all.
#include <bit>
#include <cstdio>

#include "tests/cuda_sim/engine.h"
#include "tests/cuda_sim/sanitizers.h"

namespace sim::detail {

namespace {

std::string hex(std::uint32_t mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

template <class F>
void for_lanes(const Warp& warp, std::uint32_t mask, F f) {
  for (; mask != 0; mask &= mask - 1) f(*warp.lanes[std::countr_zero(mask)]);
}

void run_shuffle(Warp& warp, std::uint32_t mask) {
  for_lanes(warp, mask, [&](Thread& t) {
    const LaneCall& call = t.call;
    const int width = call.width;
    const int base = t.lane & ~(width - 1), own = t.lane & (width - 1);
    int from = 0;
    switch (call.op) {
      case WarpOp::kShflUp:
        from = own - call.arg < 0 ? own : own - call.arg;
        break;
      case WarpOp::kShflDown:
        from = own + call.arg >= width ? own : own + call.arg;
        break;
      case WarpOp::kShflXor:
        // A target past the segment gives the own value; one before it is allowed.
        from = (t.lane ^ call.arg) >= base + width ? own : (t.lane ^ call.arg) - base;
        break;
      default:
        from = call.arg & (width - 1);
    }
    const int source = base + from;
    if ((mask >> source & 1u) == 0) {
      fail_at(call.site, std::string(name_of(call.op)) + ": lane " + std::to_string(t.lane) +
                             " reads lane " + std::to_string(source) + ", which is not in mask " +
                             hex(mask));
    }
    t.call.result = warp.lanes[source]->call.value;
  });
}

std::uint64_t reduce(WarpOp op, std::uint64_t x, std::uint64_t y) {
  const auto u = static_cast<std::uint32_t>(x), v = static_cast<std::uint32_t>(y);
  const auto s = static_cast<std::int32_t>(u), t = static_cast<std::int32_t>(v);
  switch (op) {
    case WarpOp::kReduceAddU:
      return u + v;
    case WarpOp::kReduceMinU:
      return u < v ? u : v;
    case WarpOp::kReduceMaxU:
      return u < v ? v : u;
    case WarpOp::kReduceMinS:
      return s < t ? u : v;
    case WarpOp::kReduceMaxS:
      return s < t ? v : u;
    case WarpOp::kReduceAnd:
      return u & v;
    case WarpOp::kReduceOr:
      return u | v;
    default:
      return u ^ v;
  }
}

void run_vote(Warp& warp, std::uint32_t mask, WarpOp op) {
  std::uint32_t ballot = 0;
  std::uint64_t total = 0;
  bool first = true;
  for_lanes(warp, mask, [&](const Thread& t) {
    if (t.call.value != 0) ballot |= 1u << t.lane;
    total = first ? t.call.value : reduce(op, total, t.call.value);
    first = false;
  });
  for_lanes(warp, mask, [&](Thread& t) {
    std::uint64_t& result = t.call.result;
    if (op == WarpOp::kBallot) {
      result = ballot;
    } else if (op == WarpOp::kAny) {
      result = ballot != 0;
    } else if (op == WarpOp::kAll) {
      result = ballot == mask;
    } else if (op == WarpOp::kMatchAny) {
      result = 0;
      for_lanes(warp, mask, [&](const Thread& other) {
        if (other.call.value == t.call.value) result |= 1u << other.lane;
      });
    } else {
      result = total;
    }
  });
}

void execute(Warp& warp, std::uint32_t mask, WarpOp op) {
  switch (op) {
    case WarpOp::kSync:
      return;
    case WarpOp::kShfl:
    case WarpOp::kShflUp:
    case WarpOp::kShflDown:
    case WarpOp::kShflXor:
      return run_shuffle(warp, mask);
    case WarpOp::kLdmatrix:
      return run_ldmatrix(warp, false);
    case WarpOp::kLdmatrixTrans:
      return run_ldmatrix(warp, true);
    case WarpOp::kMma:
      return run_mma(warp);
    default:
      return run_vote(warp, mask, op);
  }
}

void check_lanes(const Thread& thread, const LaneCall& call) {
  const Warp& warp = *thread.warp;
  const std::string op = name_of(call.op);
  if ((call.mask >> thread.lane & 1u) == 0) {
    fail_at(call.site, op + ": the calling lane is not in its mask " + hex(call.mask));
  }
  if ((call.mask & ~warp.exists) != 0) {
    fail_at(call.site, op + ": mask " + hex(call.mask) + " names lanes that the block, of " +
                           std::to_string(thread.block->threads.size()) +
                           " threads, does not have");
  }
  if ((call.mask & warp.exited) != 0 && !options().allow_early_exit) {
    fail_at(call.site, op + ": mask " + hex(call.mask) +
                           " names lanes that have ended: " + hex(call.mask & warp.exited));
  }
  if (call.width < 1 || call.width > 32 ||
      !std::has_single_bit(static_cast<unsigned>(call.width))) {
    fail_at(call.site, op + ": width " + std::to_string(call.width) + " is no power of two to 32");
  }
}

bool same(const LaneCall& a, const LaneCall& b) {
  return a.op == b.op && a.mask == b.mask && a.site.line == b.site.line && a.width == b.width;
}

// Two lanes that name each other must want the same. A lane that waits with others may be named by
// this one, to come later, or the other way round.
void check_others(Warp& warp, const LaneCall& call, int lane) {
  if (warp.waiting == 0) {
    warp.uniform = true;
    return;
  }
  if (warp.uniform && same(warp.lanes[std::countr_zero(warp.waiting)]->call, call)) return;
  warp.uniform = false;
  for_lanes(warp, warp.waiting & call.mask, [&](const Thread& other) {
    const LaneCall& theirs = other.call;
    if ((theirs.mask >> lane & 1u) == 0 || same(theirs, call)) return;
    fail_at(call.site, std::string("divergent warp: ") + name_of(call.op) + " mask " +
                           hex(call.mask) + " here, lane " + std::to_string(other.lane) +
                           " waits in " + name_of(theirs.op) + " mask " + hex(theirs.mask) +
                           " at " + theirs.site.file + ":" + std::to_string(theirs.site.line));
  });
}

// Acts for the lanes of `mask` if all that have not ended wait.
void complete_if_all_wait(Warp& warp, std::uint32_t mask, WarpOp op) {
  const std::uint32_t needed = mask & ~warp.exited;
  if ((warp.waiting & needed) != needed) return;
  if (!warp.uniform) {
    bool all = true;
    for_lanes(warp, needed, [&](const Thread& t) { all &= t.call.mask == mask; });
    if (!all) return;
  }
  execute(warp, needed, op);
  ++warp.phase[__builtin_ctz(mask)];
  warp.waiting &= ~needed;
  for_lanes(warp, needed, [](Thread& t) { make_ready(t); });
}

}  // namespace

std::uint64_t warp_op(const LaneCall& call) {
  Thread& thread = *engine().current;
  Warp& warp = *thread.warp;
  thread.site = call.site;
  ++stats().warp_ops;
  check_lanes(thread, call);
  check_others(warp, call, thread.lane);
  thread.call = call;
  warp.waiting |= 1u << thread.lane;
  thread.state = State::kInWarpOp;

  std::uint64_t* sync = nullptr;
  const int group = std::countr_zero(call.mask);
  if (call.op == WarpOp::kSync && warp.sync != nullptr) {
    sync = &warp.sync[group * 2 + (warp.phase[group] & 1)];
    tsan_release(sync);
  }
  complete_if_all_wait(warp, call.mask, call.op);
  block_current();
  if (sync != nullptr) tsan_acquire(sync);
  return thread.call.result;
}

void leave_warp(Thread& thread) {
  Warp& warp = *thread.warp;
  warp.exited |= 1u << thread.lane;
  for (std::uint32_t waiting = warp.waiting; waiting != 0;
       waiting &= warp.waiting & (waiting - 1)) {
    const Thread& other = *warp.lanes[std::countr_zero(waiting)];
    const LaneCall& call = other.call;
    if ((call.mask >> thread.lane & 1u) == 0) continue;
    if (options().allow_early_exit) {
      complete_if_all_wait(warp, call.mask, call.op);
      continue;
    }
    fail_at(call.site, std::string(name_of(call.op)) + ": lane " + std::to_string(thread.lane) +
                           " ends while lane " + std::to_string(other.lane) +
                           " waits for it, mask " + hex(call.mask));
  }
}

}  // namespace sim::detail
