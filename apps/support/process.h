// What the process has to see to from its start to its end, whatever it does in between.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace onpa::apps {

/// Opens those of stdin, stdout and stderr that are closed, for nobody: else the first files that
/// are opened would get their numbers, and the log in their midst. Writing to them still fails.
void keep_standard_streams();

/// From here on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT (std::terminate, with the exception
/// that led to it) first write what happened and the calls that led there to stderr; then the
/// process ends by that signal as it would have. Once, at the start of the program.
/// `role` says what part of the program the process is, where it is not the whole.
void report_crashes(const char* role = nullptr);

/// From here on SIGINT, SIGTERM, SIGHUP and SIGPIPE, where they would end the process, first remove
/// the files that are being written (io::remove_unfinished_files). Once, after report_crashes(),
/// whose stack for handlers they use.
void remove_files_on_signals();

/// Crashes, and exits that are refused, are told of in this file too, which is there already; there
/// first.
void report_crashes_in(const std::filesystem::path& log);

/// What starts this program as a decoder (data::DecoderOptions); nothing in a program that has not
/// said so, as a test.
const std::vector<std::string>& decoder_command();
void set_decoder_command(std::vector<std::string> command);

/// Environment variable that names the process which started this one and whose end it is to share.
inline constexpr const char* kParentVariable = "ONPA_PARENT";
/// Where the variable is set: from here on the kernel kills this process when that one ends,
/// however it does. Once, at the start of the program.
void die_with_parent();

/// While it lives, an exit(0) from anywhere in the process, which nobody would take for a failure,
/// says so and becomes exit code 70. Nothing is torn down then: other threads may be using it.
class Unfinished {
 public:
  Unfinished();
  ~Unfinished();
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
};

}  // namespace onpa::apps
