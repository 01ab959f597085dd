// What ranks say to each other beside their collectives: that one has ended, which all hear
// whatever they are doing (mpirun does this for its ranks), and notes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "dist/comm.h"
#include "dist/tcp/socket.h"

namespace onpa::dist::tcp {

/// Why the job ends.
struct Loss {
  int rank = 0;       // whose fault it is
  int code = 0;       // to exit with
  bool said = false;  // the rank said so itself; else its connection broke
  std::string text() const;
};

/// Connections to rank 0 and, on rank 0, to all others, and a thread that listens. The first loss
/// of the job goes to all ranks; rank 0 passes notes on.
class Control {
 public:
  /// A process that has not ended `grace` after a loss is ended: `too_late(loss)` is called, which
  /// should not return.
  Control(int rank, std::vector<Socket> connections, std::chrono::milliseconds grace,
          std::function<void(const Loss&)> too_late);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // All from any thread.

  /// Tells all ranks that this one ends the job with `code`. The process is to end next.
  void end(int code);
  /// All ranks have ended their work: from now on no connection counts as lost.
  void leave();
  /// What ended the job, if something did; waits for it up to `longest`.
  std::optional<Loss> loss(std::chrono::milliseconds longest = {});
  /// Readable as soon as there is a loss.
  int loss_fd() const { return loss_event_.fd(); }

  /// As Comm's.
  void send_note(int to, const std::string& text);
  std::vector<Note> take_notes();

 private:
  struct Message;
  void listen();
  void read_from(std::size_t connection);
  void lose(const Loss& loss);
  void send(const Socket& to, const Message& message, const std::string& text = {});
  void send_to_all(const Message& message);
  void deliver(const Message& message, std::string text);
  int rank_of(std::size_t connection) const;

  const int rank_;
  const std::chrono::milliseconds grace_;
  const std::function<void(const Loss&)> too_late_;
  Socket loss_event_, stop_event_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Socket> connections_;
  std::vector<Note> notes_;
  std::optional<Loss> loss_;
  Clock::time_point lost_at_;
  bool leaving_ = false;
  std::thread thread_;
};

}  // namespace onpa::dist::tcp
