// device_step.h on the CUDA run time.
#include "tensor/device_step.h"

#include <cuda_runtime_api.h>

#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/error.h"
#include "tensor/cuda/event.h"
#include "tensor/device.h"
#include "tensor/op_scope.h"

namespace onpa {
namespace {

cudaStream_t main_stream() {
  return static_cast<cudaStream_t>(current_cuda().stream);
}

class Pinned {
 public:
  explicit Pinned(std::size_t bytes) { ONPA_CUDA_CHECK(cudaMallocHost(&data_, bytes)); }
  ~Pinned() { cudaFreeHost(data_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

}  // namespace

struct DeviceStep::Graph {
  explicit Graph(const std::function<void()>& work) {
    const cudaStream_t stream = main_stream();
    cudaGraph_t graph = nullptr;
    ONPA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    try {
      work();
    } catch (...) {
      // The stream must leave capture mode whatever happened.
      if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    ONPA_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    const cudaError_t error = cudaGraphInstantiate(&instance, graph, 0);
    cudaGraphDestroy(graph);
    ONPA_CUDA_CHECK(error);
  }
  ~Graph() { cudaGraphExecDestroy(instance); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  cudaGraphExec_t instance = nullptr;
};

DeviceStep::DeviceStep(std::function<void()> body, std::shared_ptr<SharedArena> shared)
    : body_(std::move(body)), shared_(std::move(shared)) {}

DeviceStep::~DeviceStep() {
  // Replays under way still use the arena.
  if (graph_) cudaStreamSynchronize(main_stream());
}

const MemoryPlan& DeviceStep::plan() {
  if (arena_) return arena_->plan();
  if (!plan_) plan_ = MemoryPlan::make(body_);
  return *plan_;
}

void DeviceStep::run() {
  if (!arena_) {
    plan();
    arena_.emplace(std::move(*plan_), shared_.get());
    plan_.reset();
    arena_->run(body_);
    return;
  }
  if (has_scope_listener()) {
    arena_->run(body_);
    return;
  }
  const PhaseScope scope(graph_ ? "replay" : "capture");
  if (!graph_) {
    graph_ = std::make_unique<Graph>([this] { arena_->run(body_); });
  }
  ONPA_CUDA_CHECK(cudaGraphLaunch(graph_->instance, main_stream()));
}

// Two slots for each target, used in turn: while one is copied to the target the next is filled.
struct Uploader::State {
  struct Slot {
    explicit Slot(std::size_t size)
        : bytes(size),
          pinned(size),
          device(Tensor::empty({static_cast<std::int64_t>(size + 3) / 4}, DType::kI32,
                               DeviceKind::kCuda)) {}
    std::size_t bytes;
    Pinned pinned;
    Tensor device;
    Event arrived, consumed;
  };
  struct Target {
    std::unique_ptr<Slot> slots[2];
    int next = 0;
  };
  State() {
    require_cuda();
    ONPA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  ~State() {
    cudaStreamSynchronize(stream);
    cudaStreamSynchronize(main_stream());
    cudaStreamDestroy(stream);
  }
  cudaStream_t stream = nullptr;
  std::map<const std::byte*, Target> targets;
};

Uploader::Uploader() : state_(std::make_unique<State>()) {}
Uploader::~Uploader() = default;

void Uploader::upload(const Tensor& to, const void* from, std::size_t bytes) {
  ONPA_CHECK(to.device() == DeviceKind::kCuda && bytes <= to.byte_count(), "upload: ", bytes,
             " bytes into a tensor of shape ", to.shape());
  if (bytes == 0) return;
  const OpScope scope("upload", [&] { return OpWork{0, static_cast<double>(bytes)}; });
  State::Target& target = state_->targets[to.bytes()];
  std::unique_ptr<State::Slot>& slot = target.slots[target.next];
  target.next ^= 1;
  if (!slot || slot->bytes < bytes) {
    if (slot) slot->consumed.wait_on_host();
    slot = std::make_unique<State::Slot>(to.byte_count());
  } else {
    slot->arrived.wait_on_host();
    slot->consumed.wait_on(state_->stream);
  }
  std::memcpy(slot->pinned.data(), from, bytes);
  ONPA_CUDA_CHECK(cudaMemcpyAsync(slot->device.bytes(), slot->pinned.data(), bytes,
                                  cudaMemcpyHostToDevice, state_->stream));
  slot->arrived.record(state_->stream);
  slot->arrived.wait_on(main_stream());
  ONPA_CUDA_CHECK(cudaMemcpyAsync(to.bytes(), slot->device.bytes(), bytes, cudaMemcpyDeviceToDevice,
                                  main_stream()));
  slot->consumed.record(main_stream());
}

struct Downloader::State {
  struct Item {
    Pinned pinned{kMaxBytes};
    Event done;
    std::size_t bytes = 0;
  };
  std::deque<std::unique_ptr<Item>> waiting, idle;
};

Downloader::Downloader() : state_(std::make_unique<State>()) {}
Downloader::~Downloader() {
  // Pinned memory must outlive the copies into it.
  for (const auto& item : state_->waiting) item->done.wait_on_host();
}

void Downloader::fetch(const Tensor& from) {
  ONPA_CHECK(from.byte_count() <= kMaxBytes, "download: ", from.byte_count(), " bytes, at most ",
             kMaxBytes);
  std::unique_ptr<State::Item> item;
  if (state_->idle.empty()) {
    item = std::make_unique<State::Item>();
  } else {
    item = std::move(state_->idle.front());
    state_->idle.pop_front();
  }
  item->bytes = from.byte_count();
  ONPA_CUDA_CHECK(cudaMemcpyAsync(item->pinned.data(), from.bytes(), item->bytes,
                                  cudaMemcpyDeviceToHost, main_stream()));
  item->done.record(main_stream());
  state_->waiting.push_back(std::move(item));
}

std::size_t Downloader::pending() const {
  return state_->waiting.size();
}

bool Downloader::ready() const {
  return !state_->waiting.empty() && state_->waiting.front()->done.reached();
}

void Downloader::take(void* to, std::size_t bytes) {
  ONPA_CHECK(!state_->waiting.empty(), "download: nothing was fetched");
  std::unique_ptr<State::Item> item = std::move(state_->waiting.front());
  state_->waiting.pop_front();
  item->done.wait_on_host();
  ONPA_CHECK(bytes == item->bytes, "download: ", item->bytes, " bytes were fetched, ", bytes,
             " are wanted");
  std::memcpy(to, item->pinned.data(), bytes);
  state_->idle.push_back(std::move(item));
}

}  // namespace onpa
