#include "dist/mpi/notes.h"

#include <algorithm>

namespace onpa::dist::mpi {

// What has not gone by now never may; its memory has to stay where MPI knows it.
Notes::~Notes() {
  forget_sent();
  for (Sent& sent : sent_) {
    MPI_Request_free(&sent.request);
    static_cast<void>(sent.text.release());
  }
}

void Notes::forget_sent() {
  sent_.remove_if([](Sent& sent) {
    int done = 0;
    return MPI_Test(&sent.request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done != 0;
  });
}

void Notes::send(int to, const std::string& text) {
  const std::lock_guard lock(mutex_);
  forget_sent();
  Sent& sent = sent_.emplace_back();
  sent.text = std::make_unique<std::string>(text.substr(0, Comm::kLongestNote));
  const int error = MPI_Isend(sent.text->data(), static_cast<int>(sent.text->size()), MPI_BYTE, to,
                              0, comm_, &sent.request);
  if (error != MPI_SUCCESS) sent_.pop_back();
}

std::vector<Note> Notes::take() {
  const std::lock_guard lock(mutex_);
  forget_sent();
  std::vector<Note> notes;
  for (;;) {
    int there = 0, bytes = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, 0, comm_, &there, &status) != MPI_SUCCESS || there == 0) break;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    Note note{status.MPI_SOURCE, std::string(static_cast<std::size_t>(std::max(bytes, 0)), '\0')};
    if (MPI_Recv(note.text.data(), bytes, MPI_BYTE, note.from, 0, comm_, MPI_STATUS_IGNORE) !=
        MPI_SUCCESS) {
      break;
    }
    notes.push_back(std::move(note));
  }
  return notes;
}

}  // namespace onpa::dist::mpi
