// The NCCL calls that the product makes, on the simulated device. Ranks are processes of one host;
// a collective runs when its stream comes to it, and ends when all ranks have come. Communicators
// are non-blocking: what a call asks for happens while ncclCommGetAsyncError is asked about it.
#include "tests/cuda_sim/nccl.h"

#include <nccl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/cuda_sim/device.h"
#include "tests/cuda_sim/nccl_hub.h"

namespace {

using sim::nccl::Call;
using sim::nccl::Frame;
using sim::nccl::Kind;

constexpr char kMark[] = "simulated NCCL";
struct Id {
  char mark[sizeof kMark];
  int port;
};
static_assert(sizeof(Id) <= NCCL_UNIQUE_ID_BYTES);

// The connection to the hub. Collectives that are queued keep it.
class Link {
 public:
  Link(int port, int ranks, int rank) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sockaddr_in at = {};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<std::uint16_t>(port));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) {
      error_ = ncclSystemError;
    }
    send({Frame::What::kJoin, static_cast<std::uint32_t>(rank), static_cast<std::uint64_t>(ranks)},
         nullptr);
  }
  ~Link() { close(fd_); }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  ncclResult_t error() {
    pump();
    return error_;
  }
  bool ready() {
    pump();
    return ready_;
  }
  // The other ranks hear of it as of a process that has gone.
  void abort() {
    aborted_ = true;
    shutdown(fd_, SHUT_RDWR);
  }
  bool aborted() const { return aborted_; }
  void leave() { send({Frame::What::kLeave, 0, 0}, nullptr); }

  void post(const Call& call, const void* data, std::size_t bytes) {
    std::vector<std::byte> body(sizeof call + bytes);
    std::memcpy(body.data(), &call, sizeof call);
    if (bytes > 0) std::memcpy(body.data() + sizeof call, data, bytes);
    send({Frame::What::kCall, 0, body.size()}, body.data());
  }
  // The oldest result that has come.
  bool take(std::vector<std::byte>& result) {
    pump();
    const std::lock_guard lock(mutex_);
    if (results_.empty()) return false;
    result = std::move(results_.front());
    results_.pop_front();
    return true;
  }

 private:
  void send(const Frame& frame, const void* body) {
    const std::lock_guard lock(mutex_);
    send_all(&frame, sizeof frame);
    if (body != nullptr) send_all(body, frame.bytes);
  }
  void send_all(const void* data, std::size_t bytes) {
    const auto* at = static_cast<const char*>(data);
    while (bytes > 0 && error_ == ncclSuccess) {
      const ssize_t n = ::send(fd_, at, bytes, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        error_ = ncclRemoteError;
        return;
      }
      at += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }

  // Reads what has come, without waiting.
  void pump() {
    const std::lock_guard lock(mutex_);
    std::byte block[1 << 16];
    for (;;) {
      const ssize_t n = recv(fd_, block, sizeof block, MSG_DONTWAIT);
      if (n == 0 && error_ == ncclSuccess) error_ = ncclRemoteError;
      if (n <= 0) break;
      in_.insert(in_.end(), block, block + n);
    }
    Frame frame;
    while (in_.size() >= sizeof frame) {
      std::memcpy(&frame, in_.data(), sizeof frame);
      if (in_.size() < sizeof frame + frame.bytes) return;
      const auto begin = in_.begin() + sizeof frame;
      const auto end = begin + static_cast<std::ptrdiff_t>(frame.bytes);
      if (frame.what == Frame::What::kReady) ready_ = true;
      if (frame.what == Frame::What::kError) error_ = static_cast<ncclResult_t>(frame.code);
      if (frame.what == Frame::What::kResult) results_.emplace_back(begin, end);
      in_.erase(in_.begin(), end);
    }
  }

  const int fd_;
  std::mutex mutex_;
  std::vector<std::byte> in_;
  std::deque<std::vector<std::byte>> results_;
  ncclResult_t error_ = ncclSuccess;
  bool ready_ = false;
  std::atomic<bool> aborted_ = false;
};

// A collective on a stream. A copy that has not begun can be run anew, by a graph.
struct Collective {
  std::shared_ptr<Link> link;
  Call call;
  const void* in;
  std::size_t in_bytes;
  void* out;
  bool posted = false;

  // Whether it is done. A kernel that waits for a lost rank waits until its communicator is
  // aborted.
  bool operator()() {
    if (link->aborted()) return true;
    if (!posted) {
      link->post(call, in, in_bytes);
      posted = true;
    }
    std::vector<std::byte> result;
    if (!link->take(result)) return false;
    if (!result.empty()) std::memcpy(out, result.data(), result.size());
    ++sim::nccl_stats().collectives;
    sim::nccl_stats().bytes += in_bytes;
    return true;
  }
};

struct Queued {
  Collective collective;
  cudaStream_t stream;
};

}  // namespace

struct ncclComm {
  std::shared_ptr<Link> link;
  int ranks = 0, rank = 0;
  std::atomic<bool> in_progress = false;
  int polls = 0;  // since then
  bool connected = false;
  std::vector<Queued> called;  // not on their stream yet
};

namespace {

// The calls of a group, until its end.
thread_local int group_depth = 0;
thread_local std::vector<std::pair<ncclComm_t, Queued>> group;

void begin_progress(ncclComm_t comm) {
  comm->in_progress = true;
  comm->polls = 0;
}

ncclResult_t end_group() {
  for (const auto& [comm, queued] : group) {
    const Collective& c = queued.collective;
    if (c.call.kind == Kind::kShift && c.call.count > 0 && c.out == nullptr) {
      group.clear();
      return ncclInvalidUsage;  // sent, and nothing received
    }
  }
  if (group.size() > 1) ++sim::nccl_stats().groups;
  ncclResult_t result = ncclSuccess;
  for (auto& [comm, queued] : group) {
    comm->called.push_back(std::move(queued));
    begin_progress(comm);
    result = ncclInProgress;
  }
  group.clear();
  return result;
}

ncclResult_t call(ncclComm_t comm, const Call& call, const void* in, std::size_t in_elements,
                  void* out, std::size_t out_elements, cudaStream_t stream) {
  const std::size_t width = sim::nccl::size_of(static_cast<ncclDataType_t>(call.type));
  if (comm == nullptr || width == 0 || !comm->connected || comm->in_progress) {
    return ncclInvalidArgument;
  }
  if (call.op != ncclSum && call.op != ncclMax) return ncclInvalidArgument;
  if (call.root >= static_cast<std::uint32_t>(comm->ranks)) return ncclInvalidArgument;
  for (const auto& [pointer, elements] :
       {std::pair{in, in_elements}, std::pair{static_cast<const void*>(out), out_elements}}) {
    const auto* end = static_cast<const std::byte*>(pointer) + elements * width;
    if (elements > 0 &&
        (!sim::detail::is_device_memory(pointer) || !sim::detail::is_device_memory(end - 1))) {
      return ncclInvalidArgument;
    }
  }
  group.push_back({comm, {{comm->link, call, in, in_elements * width, out}, stream}});
  return group_depth > 0 ? ncclSuccess : end_group();
}

Call made(Kind kind, ncclDataType_t type, std::size_t count, ncclRedOp_t op = ncclSum,
          int root = 0) {
  return {kind, static_cast<std::uint32_t>(op), static_cast<std::uint32_t>(type),
          static_cast<std::uint32_t>(root), count};
}

}  // namespace

namespace sim {

NcclOptions& nccl_options() {
  static NcclOptions options;
  return options;
}
NcclStats& nccl_stats() {
  static NcclStats stats;
  return stats;
}

}  // namespace sim

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclSystemError:
      return "system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}
const char* ncclGetLastError(ncclComm_t) {
  return "";
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* out) {
  Id id = {};
  std::memcpy(id.mark, kMark, sizeof kMark);
  id.port = sim::nccl::start_hub();
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &id, sizeof id);
  return id.port == 0 ? ncclSystemError : ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int ranks, ncclUniqueId unique, int rank,
                                    ncclConfig_t* config) {
  *made = nullptr;
  Id id;
  std::memcpy(&id, &unique, sizeof id);
  if (std::memcmp(id.mark, kMark, sizeof kMark) != 0 || rank < 0 || rank >= ranks ||
      config == nullptr || config->blocking != 0) {
    return ncclInvalidArgument;
  }
  auto comm = std::make_unique<ncclComm>();
  comm->link = std::make_shared<Link>(id.port, ranks, rank);
  comm->ranks = ranks;
  comm->rank = rank;
  begin_progress(comm.get());
  *made = comm.release();
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = comm->link->error();
  if (*error != ncclSuccess || !comm->in_progress) return ncclSuccess;
  *error = ncclInProgress;
  if (++comm->polls < sim::nccl_options().polls || !comm->link->ready()) return ncclSuccess;
  comm->connected = true;
  for (Queued& each : comm->called) {
    sim::detail::enqueue_step(each.stream, std::move(each.collective));
  }
  comm->called.clear();
  comm->in_progress = false;
  *error = ncclSuccess;
  return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (comm->in_progress) return ncclInvalidArgument;
  begin_progress(comm);
  return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm->in_progress) return ncclInvalidArgument;
  comm->link->leave();
  ++sim::nccl_stats().destroyed;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  // From any thread: queued work may still hold the connection, but waits for nobody.
  comm->link->abort();
  ++sim::nccl_stats().aborts;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return ncclInvalidUsage;
  return --group_depth == 0 ? end_group() : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return call(comm, made(Kind::kAllReduce, type, count, op), in, count, out, count, stream);
}
ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return call(comm, made(Kind::kBroadcast, type, count, ncclSum, root), in, count, out, count,
              stream);
}
ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const auto ranks = static_cast<std::size_t>(comm->ranks);
  return call(comm, made(Kind::kAllGather, type, count), in, count, out, ranks * count, stream);
}
ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  const auto ranks = static_cast<std::size_t>(comm->ranks);
  return call(comm, made(Kind::kReduceScatter, type, count, op), in, ranks * count, out, count,
              stream);
}

// A rank sends to the next one and receives from the one before, in one group: a shift of the ring.
ncclResult_t ncclSend(const void* in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (group_depth == 0) return ncclInvalidUsage;
  if (comm == nullptr || peer != (comm->rank + 1) % comm->ranks) return ncclInvalidArgument;
  return call(comm, made(Kind::kShift, type, count), in, count, nullptr, 0, stream);
}
ncclResult_t ncclRecv(void* out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (group_depth == 0 || group.empty()) return ncclInvalidUsage;
  auto& [sender, queued] = group.back();
  const Call sent = queued.collective.call;
  if (sender != comm || queued.stream != stream || sent != made(Kind::kShift, type, count) ||
      peer != (comm->rank + comm->ranks - 1) % comm->ranks || !sim::detail::is_device_memory(out)) {
    return ncclInvalidArgument;
  }
  queued.collective.out = out;
  return ncclSuccess;
}

}  // extern "C"
