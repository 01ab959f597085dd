#include <cstdlib>
#include <memory>

#include "dist/mpi.h"
#include "dist/mpi/launcher.h"
#include "dist/mpi/notes.h"
#include "dist/mpi/transport.h"
#include "dist/queued_comm.h"

namespace onpa::dist {
namespace {

class MpiComm : public detail::QueuedComm {
 public:
  MpiComm(MPI_Comm comm, MPI_Comm notes)
      : QueuedComm(std::make_unique<mpi::Transport>(comm)), comm_(comm), notes_(notes) {}

  void send_note(int to, const std::string& text) override { notes_.send(to, text); }
  std::vector<Note> take_notes() override { return notes_.take(); }

  void abort(int code) override {
    mpi::end_launcher_if_it_hangs();
    MPI_Abort(comm_, detail::valid_code(code));
    std::_Exit(detail::valid_code(code));
  }

 private:
  MPI_Comm comm_;
  mpi::Notes notes_;
};

}  // namespace

bool has_mpi() {
  return true;
}

void run_mpi(const std::function<void(Comm&)>& body,
             const std::function<void(const std::exception&, int)>& report) {
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
  if (provided < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    fail(ExitCode::kConfig, "this MPI cannot be called from several threads");
  }
  MPI_Comm comm = MPI_COMM_NULL, notes = MPI_COMM_NULL;
  for (MPI_Comm* own : {&comm, &notes}) {
    MPI_Comm_dup(MPI_COMM_WORLD, own);
    MPI_Comm_set_errhandler(*own, MPI_ERRORS_RETURN);
  }
  {
    MpiComm ranks(comm, notes);
    try {
      body(ranks);
    } catch (const Error& e) {
      report(e, ranks.rank());
      ranks.abort(static_cast<int>(e.code()));
    } catch (const std::exception& e) {
      report(e, ranks.rank());
      ranks.abort(static_cast<int>(ExitCode::kInternal));
    }
  }
  MPI_Comm_free(&notes);
  MPI_Comm_free(&comm);
  MPI_Finalize();
}

}  // namespace onpa::dist
