// A Comm on the CPU whose collectives a thread of its own carries out, over a Transport.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "dist/collectives.h"
#include "dist/host.h"

namespace onpa::dist::detail {

class QueuedComm : public Comm {
 public:
  /// `transport` is that thread's from now on.
  explicit QueuedComm(std::unique_ptr<Transport> transport);
  /// Ends what was started first, so the other ranks have to get there too.
  ~QueuedComm() override;

 protected:
  Work start(Collective collective) override;

 private:
  struct Call {
    Collective collective;
    std::shared_ptr<HostWork> work;
  };
  std::optional<Call> next();
  void work();
  std::exception_ptr carry_out(const Collective& c);

  std::unique_ptr<Transport> transport_;
  Collectives collectives_;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> queue_;
  bool stopping_ = false;
  std::thread worker_;
};

/// An exit code that a process can have: `code`, or kInternal's for one that is not in 1 to 255.
int valid_code(int code);

}  // namespace onpa::dist::detail
