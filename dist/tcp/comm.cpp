#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dist/queued_comm.h"
#include "dist/tcp.h"
#include "dist/tcp/control.h"
#include "dist/tcp/rendezvous.h"
#include "dist/tcp/transport.h"

namespace onpa::dist {
namespace {

// For a rank to say what it knows, after another has ended the job.
constexpr auto kGrace = std::chrono::seconds(5);

class TcpComm : public detail::QueuedComm {
 public:
  TcpComm(int rank, std::vector<tcp::Socket> data, tcp::Control& control)
      : QueuedComm(std::make_unique<tcp::Transport>(rank, std::move(data), control)),
        control_(control) {}

  void send_note(int to, const std::string& text) override { control_.send_note(to, text); }
  std::vector<Note> take_notes() override { return control_.take_notes(); }

  void abort(int code) override {
    control_.end(detail::valid_code(code));
    std::_Exit(detail::valid_code(code));
  }

 private:
  tcp::Control& control_;
};

}  // namespace

void run_tcp(const Launch& launch, const std::function<void(Comm&)>& body,
             const std::function<void(const std::exception&, int)>& report) {
  const int rank = launch.rank;
  tcp::Mesh mesh = tcp::meet(rank, launch.size, {launch.host, launch.port, launch.seconds});
  tcp::Control control(rank, std::move(mesh.control), kGrace, [&](const tcp::Loss& loss) {
    report(Error(loss.text(), ExitCode::kStopped), rank);
    std::_Exit(loss.code);
  });
  TcpComm comm(rank, std::move(mesh.data), control);
  // The first cause is what the job ends with, not what it made of the others.
  const auto end = [&](const std::exception& e, ExitCode code) {
    report(e, rank);
    const auto loss = control.loss();
    comm.abort(loss ? loss->code : static_cast<int>(code));
  };
  try {
    body(comm);
    comm.barrier();
  } catch (const Error& e) {
    end(e, e.code());
  } catch (const std::exception& e) {
    end(e, ExitCode::kInternal);
  }
  control.leave();
}

}  // namespace onpa::dist
