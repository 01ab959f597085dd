// Collectives' bytes over TCP connections between all pairs of ranks.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "dist/tcp/control.h"
#include "dist/transport.h"

namespace onpa::dist::tcp {

class Transport : public detail::Transport {
 public:
  /// `data` is by rank; its own is not open. `control` must outlive this.
  Transport(int rank, std::vector<Socket> data, Control& control);

  void gather_small(const void* mine, void* all, int bytes) override;
  void broadcast(std::byte* data, std::int64_t bytes, int root) override;
  void exchange(const Exchange& e) override;

 private:
  /// What goes to and comes from one rank; the bytes up to `may_send()` can be sent, if it is set.
  struct Flow {
    int rank = 0;
    const std::byte* send = nullptr;
    std::int64_t send_bytes = 0;
    std::byte* receive = nullptr;
    std::int64_t receive_bytes = 0;
    const std::int64_t* may_send = nullptr;
    std::int64_t sent = 0, received = 0;
  };
  void run(std::span<Flow> flows);
  bool advance(Flow& flow);
  [[noreturn]] void broken(int rank, int error);

  std::vector<Socket> data_;
  Control& control_;
};

}  // namespace onpa::dist::tcp
