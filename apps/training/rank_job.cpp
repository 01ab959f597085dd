#include "apps/training/rank_job.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <thread>

#include "apps/support/failure.h"
#include "apps/support/log.h"
#include "dist/launch.h"
#include "kernels/cpu/parallel.h"

namespace onpa::apps {
namespace {

using Clock = std::chrono::steady_clock;

// In which ranks that fail for the same reason do so: they have been in step, but may share a core.
constexpr auto kTogether = std::chrono::seconds(2);
// A rank that was told of an error leaves it to the one that had it to end the job.
constexpr auto kTold = std::chrono::seconds(6);
constexpr auto kAfterFirst = std::chrono::seconds(2);
constexpr auto kBetweenRanks = std::chrono::milliseconds(100);

int number_in_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

void say(int rank, const std::string& message) {
  const std::string who = rank > 0 ? "rank " + std::to_string(rank) + ": " : "";
  write_stderr("onpa: " + who + message + "\n");
}

// Whether no other rank of this job and host has said so: ranks that fail alike before they join
// cannot agree who speaks. The launcher's folder goes away with the job.
bool first_to_say(const std::string& message) {
  const char* folder = std::getenv("PMIX_SERVER_TMPDIR");
  const char* job = std::getenv("PMIX_NAMESPACE");
  if (folder == nullptr || job == nullptr) return true;
  if (number_in_environment("OMPI_COMM_WORLD_SIZE", 1) == 1) return true;
  const std::string mark = std::string(folder) + "/onpa-said-" + job + "-" +
                           std::to_string(std::hash<std::string>()(message));
  const int fd = open(mark.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return errno != EEXIST;
  close(fd);
  return true;
}

// What the launch takes the exit code of.
Error with_code(const std::exception& error) {
  const Failure failure = failure_of(error);
  return Error(failure.message, static_cast<ExitCode>(failure.code));
}

// Who had the error that the others have only heard of, or met because of it.
int speaker_of(const std::map<int, RankFailure>& failures) {
  const int lost = static_cast<int>(ExitCode::kStopped);
  for (const auto& [rank, failure] : failures) {
    if (failure.own && failure.code != lost) return rank;
  }
  for (const auto& [rank, failure] : failures) {
    if (failure.own) return rank;
  }
  return failures.begin()->first;
}

// Ranks of one machine share its cores, unless the user has said otherwise.
void share_cores() {
  if (std::getenv("ONPA_THREADS") != nullptr) return;
  const int here = number_in_environment("OMPI_COMM_WORLD_LOCAL_SIZE",
                                         number_in_environment("LOCAL_WORLD_SIZE", 1));
  const int cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  kernels::set_thread_count(std::clamp(cores / std::max(here, 1), 1, kernels::thread_count()));
}

}  // namespace

int launched_rank() {
  try {
    return dist::launch_from_environment().rank;
  } catch (const Error&) {  // which is told of where the ranks are to join
    return 0;
  }
}

void complain_alone(const std::string& message) {
  const int rank = launched_rank();
  if (rank > 0) std::this_thread::sleep_for(kAfterFirst + rank * kBetweenRanks);
  if (first_to_say(message)) say(rank, message);
}

std::optional<CommonEnd> end_together(Ranks& ranks, const std::exception& error) {
  const Failure failure = failure_of(error);
  const bool own = dynamic_cast<const ElsewhereError*>(&error) == nullptr;
  const RankFailure mine = {failure.code, own, failure.message};
  ranks.phase("end");
  ranks.notes().tell(mine);
  const auto all_others = [&] { return std::ssize(ranks.notes().failures()) == ranks.size() - 1; };
  for (const auto until = Clock::now() + (own ? Clock::duration(kTogether) : kTold);
       !all_others() && Clock::now() < until;) {
    ranks.notes().read(ranks.place());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (!all_others()) return std::nullopt;
  std::map<int, RankFailure> failures = ranks.notes().failures();
  failures[ranks.rank()] = mine;
  const int speaker = speaker_of(failures);
  return CommonEnd{failures[speaker].code, speaker == ranks.rank()};
}

int run_as_rank(const std::function<int(Ranks&)>& body) {
  share_cores();
  int code = 0;
  const auto as_rank = [&](dist::Comm& comm) {
    if (comm.rank() > 0) set_up_rank_console(comm.rank());
    Ranks ranks(comm, true);
    try {
      code = body(ranks);
      comm.barrier();  // under the watch: leaving MPI waits for all, for ever
    } catch (const std::exception& error) {
      const auto end = end_together(ranks, error);
      spdlog::debug("ends: {}", error.what());
      if (!end && dynamic_cast<const ElsewhereError*>(&error) != nullptr) throw;
      if (!end) throw with_code(error);
      code = end->code;
      if (end->speaks) say(comm.rank(), failure_of(error).message);
    }
  };
  const auto report = [](const std::exception& error, int rank) {
    if (dynamic_cast<const ElsewhereError*>(&error) != nullptr) return;
    std::fprintf(stderr, "onpa: rank %d: %s\n", rank, failure_of(error).message.c_str());
  };
  dist::run_from_environment(as_rank, report);
  return code;
}

}  // namespace onpa::apps
