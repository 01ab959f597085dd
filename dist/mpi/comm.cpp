#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "dist/host.h"
#include "dist/mpi.h"
#include "dist/mpi/collectives.h"
#include "dist/mpi/notes.h"

namespace onpa::dist {
namespace {

using detail::HostWork;

int valid_code(int code) {
  return code >= 1 && code <= 255 ? code : static_cast<int>(ExitCode::kInternal);
}

class MpiComm : public Comm {
 public:
  MpiComm(MPI_Comm comm, MPI_Comm notes, int rank, int size)
      : Comm(rank, size), comm_(comm), collectives_(comm), notes_(notes), worker_([this] {
          work();
        }) {}

  // Ends what was started first, so the other ranks have to get there too.
  ~MpiComm() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }

  void send_note(int to, const std::string& text) override { notes_.send(to, text); }
  std::vector<Note> take_notes() override { return notes_.take(); }

  void abort(int code) override {
    MPI_Abort(comm_, valid_code(code));
    std::_Exit(valid_code(code));
  }

 protected:
  Work start(Collective collective) override {
    detail::check_on_host(collective, rank());
    auto work = std::make_shared<HostWork>();
    {
      const std::lock_guard lock(mutex_);
      queue_.emplace_back(std::move(collective), work);
    }
    changed_.notify_all();
    return Work(std::move(work));
  }

 private:
  struct Call {
    Call(Collective c, std::shared_ptr<HostWork> w)
        : collective(std::move(c)), work(std::move(w)) {}
    Collective collective;
    std::shared_ptr<HostWork> work;
  };

  std::optional<Call> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return std::nullopt;
    Call call = std::move(queue_.front());
    queue_.pop_front();
    return call;
  }

  // After one has failed the ranks are no longer together, and all the others fail too.
  void work() {
    std::exception_ptr error;
    while (auto call = next()) {
      if (!error) error = carry_out(call->collective);
      call->work->finish(error);
    }
  }

  std::exception_ptr carry_out(const Collective& c) {
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

  MPI_Comm comm_;
  mpi::Collectives collectives_;  // the worker's
  mpi::Notes notes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> queue_;
  bool stopping_ = false;
  std::thread worker_;
};

}  // namespace

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
  int rank = 0, size = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  {
    MpiComm ranks(comm, notes, rank, size);
    try {
      body(ranks);
    } catch (const Error& e) {
      report(e, rank);
      ranks.abort(static_cast<int>(e.code()));
    } catch (const std::exception& e) {
      report(e, rank);
      ranks.abort(static_cast<int>(ExitCode::kInternal));
    }
  }
  MPI_Comm_free(&notes);
  MPI_Comm_free(&comm);
  MPI_Finalize();
}

}  // namespace onpa::dist
