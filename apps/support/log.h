// The command's log: plain lines on stderr.
#pragma once

#include <spdlog/spdlog.h>

#include <filesystem>
#include <string_view>

namespace onpa::apps {

/// Sends spdlog to stderr as "onpa: message" ("onpa: warning: message"); `quiet` keeps warnings
/// and errors only.
void set_up_log(bool quiet);

/// Writes to stderr. Whoever reads it may be slow or gone, and must not stop a run: what a full
/// pipe, or a terminal that is held, does not take within a fifth of a second is lost, and so is
/// what follows until it takes something again.
void write_stderr(std::string_view text);

/// For a rank that does not speak for all: from now on only errors reach stderr, as "onpa: rank 7:
/// error: message".
void set_up_rank_console(int rank);
/// Sends everything to `folder`/rank_007.log too, with the time; also what is too detailed for
/// stderr. No folder, no log; one that cannot be written to is warned of. Before other threads log.
void add_rank_log(const std::filesystem::path& folder, int rank);

}  // namespace onpa::apps
