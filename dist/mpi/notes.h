// Notes between ranks, on a communicator of their own.
#pragma once

#include <mpi.h>

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dist/comm.h"

namespace onpa::dist::mpi {

/// Comm::send_note() and take_notes(). What MPI reports here is passed over: collectives tell of
/// what is broken.
class Notes {
 public:
  explicit Notes(MPI_Comm comm) : comm_(comm) {}
  ~Notes();
  Notes(const Notes&) = delete;
  Notes& operator=(const Notes&) = delete;

  void send(int to, const std::string& text);
  std::vector<Note> take();

 private:
  struct Sent {
    std::unique_ptr<std::string> text;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  void forget_sent();

  MPI_Comm comm_;
  std::mutex mutex_;
  std::list<Sent> sent_;  // and not gone yet
};

}  // namespace onpa::dist::mpi
