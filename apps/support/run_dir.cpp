#include "apps/support/run_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "kernels/error.h"
#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

std::string host_name() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) return "unknown";
  return name;
}

std::string read_all(int descriptor) {
  char buffer[512] = {};
  const ssize_t count = pread(descriptor, buffer, sizeof(buffer) - 1, 0);
  return count > 0 ? std::string(buffer, static_cast<std::size_t>(count)) : "";
}

// The first line of a lock is "host pid". What a power cut has torn names nobody.
std::string holder_of(const std::string& content) {
  const std::size_t end = content.find('\n'), space = content.find(' ');
  if (end == std::string::npos || space == 0 || space >= end) return "";
  const auto printable = [](unsigned char c) { return c > ' ' && c < 127; };
  const auto digit = [](unsigned char c) { return c >= '0' && c <= '9'; };
  const bool host =
      std::all_of(content.begin(), content.begin() + static_cast<long>(space), printable);
  const bool pid = std::all_of(content.begin() + static_cast<long>(space) + 1,
                               content.begin() + static_cast<long>(end), digit);
  return host && pid ? content.substr(0, end) : "";
}

// What a run that was killed has left. Only this process writes these; eval and embed, which may
// write tables here at the same time, have other names.
void remove_leftovers(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> leftovers;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    for (const char* file : {"config.resolved.toml", "env.json", "bad_tracks.csv", "metrics.jsonl",
                             "profile.json", "profile.csv"}) {
      if (name.starts_with(std::string(".tmp-") + file + "-")) leftovers.push_back(it->path());
    }
  }
  for (const std::filesystem::path& path : leftovers) std::filesystem::remove(path, error);
}

}  // namespace

RunDir::RunDir(std::filesystem::path folder) : folder_(std::move(folder)) {
  const io::FaultScope faults(io::FileKind::kRun);
  io::make_folders(checkpoints());
  const std::string path = (folder_ / "lock").string();
  if (io::fault_point()) lock_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) {
    fail(ExitCode::kCannotCreate, path, ": cannot write to the run folder: ", std::strerror(errno));
  }
  // The kernel drops a flock with its process, so on one host a held lock is never stale. A name
  // of another host in a lock that is free means a file system that shares no locks.
  const bool held = flock(lock_, LOCK_EX | LOCK_NB) != 0;
  const std::string holder = holder_of(read_all(lock_)), host = host_name();
  const bool elsewhere = !held && !holder.empty() && holder.rfind(host + " ", 0) != 0;
  if (held || elsewhere) {
    close(lock_);
    lock_ = -1;
    fail(ExitCode::kCannotCreate, folder_.string(), ": another run uses this folder (", holder, ")",
         elsewhere ? "; if that process is gone, remove the file 'lock' in it" : "");
  }
  const std::string content = host + " " + std::to_string(getpid()) + "\n";
  errno = ENOSPC;  // a write that stops short gives no reason
  if (ftruncate(lock_, 0) != 0 || !io::fault_point() ||
      pwrite(lock_, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
    const std::string reason = std::strerror(errno);
    // Half a name would read as that of another host.
    if (ftruncate(lock_, 0) != 0) errno = 0;
    close(lock_);
    lock_ = -1;
    fail(ExitCode::kIo, "cannot write ", path, ": ", reason);
  }
  remove_leftovers(folder_);
}

RunDir::~RunDir() {
  if (lock_ < 0) return;
  // Emptied, not removed: another process may have the file open and be about to lock it.
  if (ftruncate(lock_, 0) != 0) errno = 0;
  close(lock_);
}

void RunDir::write_text(const std::string& name, const std::string& text) const {
  const io::FaultScope faults(io::FileKind::kRun);
  io::write_file_atomic(folder_ / name, text);
}

}  // namespace onpa::apps
