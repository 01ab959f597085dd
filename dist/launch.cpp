#include "dist/launch.h"

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "dist/alone.h"
#include "dist/mpi.h"
#include "dist/tcp.h"
#include "kernels/error.h"

namespace onpa::dist {
namespace {

using Variable = std::function<const char*(const char*)>;

constexpr const char* kNames[] = {
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK",           "RANK",
    "WORLD_SIZE",           "LOCAL_RANK",           "MASTER_ADDR",         "MASTER_PORT",
    "SLURM_PROCID",         "SLURM_NTASKS",         "SLURM_STEP_NUM_TASKS"};

// Those that are set, for messages.
std::string settings(const Variable& variable) {
  std::string text;
  for (const char* name : kNames) {
    const char* value = variable(name);
    if (value != nullptr) text += onpa::detail::concat(text.empty() ? "" : ", ", name, "=", value);
  }
  return text;
}

std::optional<int> number(const Variable& variable, const char* name) {
  const char* text = variable(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view view = text;
  int value = -1;
  const auto [end, error] = std::from_chars(view.begin(), view.end(), value);
  if (error != std::errc() || end != view.end() || value < 0) {
    fail(ExitCode::kConfig, name, "=", text, ": want a whole number, not below 0");
  }
  return value;
}

std::optional<int> first_of(const std::optional<int>& one, const std::optional<int>& other) {
  return one ? one : other;
}

void check_rank(const Launch& launch, const Variable& variable) {
  if (launch.size >= 1 && launch.rank < launch.size) return;
  fail(ExitCode::kConfig, "rank ", launch.rank, " of ", launch.size,
       " cannot be: ", settings(variable));
}

// Where rank 0 is; whether both parts are known.
bool read_meeting(Launch& launch, const Variable& variable) {
  const char* host = variable("MASTER_ADDR");
  const auto port = number(variable, "MASTER_PORT");
  if (host == nullptr || !port) return false;
  const char* agent = variable("TORCHELASTIC_USE_AGENT_STORE");
  const bool taken = agent != nullptr && std::string_view(agent) == "True";
  launch.host = host;
  launch.port = *port + (taken ? 1 : 0);
  if (launch.port < 1 || launch.port > 65535) {
    fail(ExitCode::kConfig, "MASTER_PORT=", *port, ": want 1 to 65535");
  }
  launch.by = Launch::By::kTcp;
  return true;
}

Launch by_mpi(const Variable& variable) {
  Launch launch;
  launch.by = Launch::By::kMpi;
  const auto rank =
      first_of(number(variable, "OMPI_COMM_WORLD_RANK"), number(variable, "PMIX_RANK"));
  auto size = number(variable, "OMPI_COMM_WORLD_SIZE");
  // PMIx does not say how many there are; srun, which started them then, does.
  if (!size) size = number(variable, "SLURM_STEP_NUM_TASKS");
  if (!size) size = number(variable, "SLURM_NTASKS");
  launch.rank = rank.value_or(0);
  launch.size = size.value_or(launch.rank + 1);
  check_rank(launch, variable);
  const auto other_rank = number(variable, "RANK"), other_size = number(variable, "WORLD_SIZE");
  if ((other_rank && rank && *other_rank != *rank) ||
      (other_size && size && *other_size != *size)) {
    fail(ExitCode::kConfig, "two launchers contradict each other: ", settings(variable),
         "; start with one of them, or unset RANK and WORLD_SIZE");
  }
  const auto local =
      first_of(number(variable, "OMPI_COMM_WORLD_LOCAL_RANK"), number(variable, "SLURM_LOCALID"));
  launch.local_rank = first_of(number(variable, "LOCAL_RANK"), local).value_or(-1);
  if (launch.size == 1 && size) launch.by = Launch::By::kNobody;
  if (launch.by == Launch::By::kMpi && !has_mpi()) read_meeting(launch, variable);
  return launch;
}

Launch by_environment(const Variable& variable) {
  Launch launch;
  const auto rank = number(variable, "RANK"), size = number(variable, "WORLD_SIZE");
  const auto want = [&] {
    fail(ExitCode::kConfig, "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT go together, there is ",
         settings(variable));
  };
  if (!rank || !size) want();
  launch.rank = *rank;
  launch.size = *size;
  check_rank(launch, variable);
  launch.local_rank =
      first_of(number(variable, "LOCAL_RANK"), number(variable, "SLURM_LOCALID")).value_or(-1);
  if (launch.size > 1 && !read_meeting(launch, variable)) want();
  return launch;
}

// A batch script has SLURM_PROCID too, but its step has one task.
Launch by_slurm(const Variable& variable) {
  Launch launch;
  const auto tasks =
      first_of(number(variable, "SLURM_STEP_NUM_TASKS"), number(variable, "SLURM_NTASKS"));
  if (tasks.value_or(1) == 1) return launch;
  if (read_meeting(launch, variable)) {
    launch.rank = *number(variable, "SLURM_PROCID");
    launch.size = *tasks;
    check_rank(launch, variable);
    launch.local_rank =
        first_of(number(variable, "LOCAL_RANK"), number(variable, "SLURM_LOCALID")).value_or(-1);
  } else if (variable("SLURM_STEP_NUM_TASKS") != nullptr) {
    fail(ExitCode::kConfig, "srun started ", *tasks,
         " tasks that nothing joins: use srun --mpi=pmix, or set MASTER_ADDR (the first host) and "
         "MASTER_PORT");
  }
  return launch;
}

}  // namespace

bool started_by_mpi() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

Launch launch_of(const Variable& variable) {
  Launch launch;
  if (variable("OMPI_COMM_WORLD_SIZE") != nullptr || variable("PMIX_RANK") != nullptr) {
    launch = by_mpi(variable);
  } else if (variable("RANK") != nullptr || variable("WORLD_SIZE") != nullptr) {
    launch = by_environment(variable);
  } else if (variable("SLURM_PROCID") != nullptr) {
    launch = by_slurm(variable);
  }
  if (const auto seconds = number(variable, "ONPA_JOIN_SECONDS")) launch.seconds = *seconds;
  return launch;
}

Launch launch_from_environment() {
  return launch_of([](const char* name) -> const char* {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : nullptr;
  });
}

bool started_as_one_of_several() {
  return launch_from_environment().by != Launch::By::kNobody;
}

void run_alone(const std::function<void(Comm&)>& body) {
  Alone comm;
  body(comm);
}

void run_from_environment(const std::function<void(Comm&)>& body,
                          const std::function<void(const std::exception&, int)>& report) {
  const Launch launch = launch_from_environment();
  switch (launch.by) {
    case Launch::By::kNobody:
      return run_alone(body);
    case Launch::By::kMpi:
      return run_mpi(body, report);
    case Launch::By::kTcp:
      return run_tcp(launch, body, report);
  }
}

}  // namespace onpa::dist
