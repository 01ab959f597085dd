#include "data/decoder_pool.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>

#include "audio/decode.h"
#include "data/decode_process.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"

namespace onpa::data {
namespace {

using Clock = std::chrono::steady_clock;
// Processes in a row that did not come to life, after which the next is tried later.
constexpr int kFailuresInARow = 3;
constexpr std::chrono::seconds kRest{60};

}  // namespace

struct DecoderPool::State {
  explicit State(DecoderOptions o) : options(std::move(o)) {}

  const DecoderOptions options;
  std::atomic<bool> cancelled = false;
  mutable std::mutex mutex;  // guards what follows
  std::vector<std::unique_ptr<DecodeProcess>> idle;
  std::string problem;
  int failures = 0;  // in a row
  Clock::time_point last_failure;

  // None if no process can be had.
  std::unique_ptr<DecodeProcess> take() {
    {
      const std::lock_guard lock(mutex);
      if (!idle.empty()) {
        std::unique_ptr<DecodeProcess> process = std::move(idle.back());
        idle.pop_back();
        return process;
      }
      if (failures >= kFailuresInARow && Clock::now() - last_failure < kRest) return nullptr;
    }
    std::unique_ptr<DecodeProcess> process;
    std::string why;
    try {
      process = std::make_unique<DecodeProcess>(options, cancelled);
    } catch (const NoDecoder& error) {
      why = error.what();
    }
    const std::lock_guard lock(mutex);
    if (process) {
      failures = 0;
    } else {
      ++failures;
      last_failure = Clock::now();
      if (problem.empty()) problem = why;
    }
    return process;
  }

  void put_back(std::unique_ptr<DecodeProcess> process) {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(process));
  }
};

DecoderPool::DecoderPool(DecoderOptions options)
    : state_(std::make_unique<State>(std::move(options))) {}

DecoderPool::~DecoderPool() = default;

audio::Clip DecoderPool::decode(const std::filesystem::path& path) {
  const int fault = io::order_fault(io::FaultSite::kDecoder);
  const bool apart = !state_->options.command.empty();
  for (bool again = false; apart; again = true) {
    std::unique_ptr<DecodeProcess> process = state_->take();
    if (!process) break;
    try {
      audio::Clip clip = process->decode(path, fault);
      state_->put_back(std::move(process));
      return clip;
    } catch (const DecoderDied& end) {
      if (end.by_others() && !again) continue;
      fail(ExitCode::kBadData, path.string(), ": ", end.what());
    } catch (const Error&) {
      if (process->alive()) state_->put_back(std::move(process));
      throw;
    }
  }
  if (state_->cancelled) fail(ExitCode::kStopped, path.string(), ": decoding was cancelled");
  io::carry_out(fault);
  return audio::decode_file(path);
}

void DecoderPool::cancel() {
  state_->cancelled = true;
}

std::string DecoderPool::problem() const {
  const std::lock_guard lock(state_->mutex);
  return state_->problem;
}

}  // namespace onpa::data
