#include "dist/tcp/control.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace onpa::dist::tcp {
namespace {

constexpr auto kSendTime = std::chrono::seconds(2);

Socket event() {
  Socket made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ONPA_CHECK(made.open(), "no event could be made");
  return made;
}

void set(const Socket& event) {
  const std::uint64_t one = 1;
  static_cast<void>(write(event.fd(), &one, sizeof one));
}

}  // namespace

struct Control::Message {
  enum class What : std::int32_t { kLoss, kLeave, kNote };
  What what = What::kLeave;
  std::int32_t from = 0, to = 0;
  std::int32_t code = 0, said = 0;  // of a loss
  std::uint32_t text_bytes = 0;
};

std::string Loss::text() const {
  return said ? onpa::detail::concat("rank ", rank, " has ended the job with exit code ", code)
              : onpa::detail::concat("rank ", rank, " is lost: its process or host is gone");
}

Control::Control(int rank, std::vector<Socket> connections, std::chrono::milliseconds grace,
                 std::function<void(const Loss&)> too_late)
    : rank_(rank),
      grace_(grace),
      too_late_(std::move(too_late)),
      loss_event_(event()),
      stop_event_(event()),
      connections_(std::move(connections)),
      thread_([this] { listen(); }) {}

Control::~Control() {
  set(stop_event_);
  thread_.join();
}

void Control::end(int code) {
  const std::lock_guard lock(mutex_);
  if (loss_) return;
  Message message = {.what = Message::What::kLoss, .from = rank_};
  message.code = code;
  message.said = 1;
  send_to_all(message);
}

void Control::leave() {
  const std::lock_guard lock(mutex_);
  leaving_ = true;
  send_to_all({.what = Message::What::kLeave, .from = rank_});
}

std::optional<Loss> Control::loss(std::chrono::milliseconds longest) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, longest, [this] { return loss_.has_value(); });
  return loss_;
}

void Control::send_note(int to, const std::string& text) {
  std::string kept = text.substr(0, Comm::kLongestNote);
  const std::lock_guard lock(mutex_);
  deliver({.what = Message::What::kNote, .from = rank_, .to = to}, std::move(kept));
}

std::vector<Note> Control::take_notes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(notes_, {});
}

int Control::rank_of(std::size_t connection) const {
  return rank_ == 0 ? static_cast<int>(connection) : 0;
}

// With the lock held, as all below but listen().
void Control::send(const Socket& to, const Message& message, const std::string& text) {
  if (!to.open()) return;
  std::string bytes(sizeof message, '\0');
  std::memcpy(bytes.data(), &message, sizeof message);
  bytes += text;
  send_until(to, bytes.data(), bytes.size(), Clock::now() + kSendTime);
}

void Control::send_to_all(const Message& message) {
  for (const Socket& other : connections_) send(other, message);
}

void Control::deliver(const Message& message, std::string text) {
  if (message.to == rank_) {
    notes_.push_back({message.from, std::move(text)});
    return;
  }
  Message passed = message;
  passed.text_bytes = static_cast<std::uint32_t>(text.size());
  const auto to = static_cast<std::size_t>(rank_ == 0 ? message.to : 0);
  if (to < connections_.size()) send(connections_[to], passed, text);
}

void Control::lose(const Loss& loss) {
  if (loss_ || leaving_) return;
  loss_ = loss;
  lost_at_ = Clock::now();
  if (rank_ == 0) {
    Message message = {.what = Message::What::kLoss, .from = loss.rank};
    message.code = loss.code;
    message.said = loss.said;
    send_to_all(message);
  }
  set(loss_event_);
  changed_.notify_all();
}

void Control::read_from(std::size_t connection) {
  const Socket& from = connections_[connection];
  const auto soon = Clock::now() + kSendTime;  // a message is sent at once
  Message message;
  std::string text;
  bool come = receive_until(from, &message, sizeof message, soon);
  if (come && message.text_bytes <= Comm::kLongestNote) {
    text.resize(message.text_bytes);
    come = receive_until(from, text.data(), text.size(), soon);
  }
  if (come && message.what == Message::What::kNote) return deliver(message, std::move(text));
  if (come && message.what == Message::What::kLoss) {
    return lose({.rank = message.from, .code = message.code, .said = message.said != 0});
  }
  connections_[connection] = Socket();
  if (come) return;  // it has left
  lose({.rank = rank_of(connection), .code = static_cast<int>(ExitCode::kStopped)});
}

void Control::listen() {
  for (;;) {
    std::vector<pollfd> waits = {{stop_event_.fd(), POLLIN, 0}};
    std::vector<std::size_t> of;
    int timeout_ms = -1;
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = 0; i < connections_.size(); ++i) {
        if (!connections_[i].open()) continue;
        waits.push_back({connections_[i].fd(), POLLIN, 0});
        of.push_back(i);
      }
      if (loss_) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(lost_at_ + grace_ - Clock::now()).count();
        timeout_ms = static_cast<int>(std::max<std::int64_t>(left, 0));
      }
    }
    const int ready = poll(waits.data(), waits.size(), timeout_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0 || waits[0].revents != 0) return;
    if (ready == 0) return too_late_(*loss());
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < of.size(); ++i) {
      if (waits[i + 1].revents != 0) read_from(of[i]);
    }
  }
}

}  // namespace onpa::dist::tcp
