#include "dist/queued_comm.h"

#include <utility>

namespace onpa::dist::detail {

QueuedComm::QueuedComm(std::unique_ptr<Transport> transport)
    : Comm(transport->rank(), transport->size()),
      transport_(std::move(transport)),
      collectives_(*transport_),
      worker_([this] { work(); }) {}

QueuedComm::~QueuedComm() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  worker_.join();
}

Work QueuedComm::start(Collective collective) {
  check_on_host(collective, rank());
  auto work = std::make_shared<HostWork>();
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(collective), work});
  }
  changed_.notify_all();
  return Work(std::move(work));
}

std::optional<QueuedComm::Call> QueuedComm::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
  if (queue_.empty()) return std::nullopt;
  Call call = std::move(queue_.front());
  queue_.pop_front();
  return call;
}

// After one has failed the ranks are no longer together, and all the others fail too.
void QueuedComm::work() {
  std::exception_ptr error;
  while (auto call = next()) {
    if (!error) error = carry_out(call->collective);
    call->work->finish(error);
  }
}

std::exception_ptr QueuedComm::carry_out(const Collective& c) {
  const auto named = [&](const std::exception& e, ExitCode code) {
    return std::make_exception_ptr(
        Error(onpa::detail::concat("rank ", rank(), ": ", c.name(), ": ", e.what()), code));
  };
  try {
    collectives_.carry_out(c);
    return nullptr;
  } catch (const Error& e) {
    return named(e, e.code());
  } catch (const std::exception& e) {
    return named(e, ExitCode::kInternal);
  }
}

int valid_code(int code) {
  return code >= 1 && code <= 255 ? code : static_cast<int>(ExitCode::kInternal);
}

}  // namespace onpa::dist::detail
