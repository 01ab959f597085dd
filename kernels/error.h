// Errors: one exception type that carries the process exit code, and the macro that throws it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace onpa {

/// Exit codes of the `onpa` command. Scripts rely on the numbers.
enum class ExitCode : int {
  kOk = 0,
  kCheckFailed = 1,  // the work is done and written, but a result is not what it has to be
  kUsage = 64,
  kBadData = 65,
  kInputMissing = 66,
  kInternal = 70,
  kCannotCreate = 73,
  kIo = 74,
  kStopped = 75,  // stopped on request, resumable
  kConfig = 78,
  kDiverged = 80,
  kOutOfMemory = 81,
  kStalled = 82,
  kBadCheckpoint = 83,
  kDevice = 84,
};

/// The only exception that onpa throws on purpose. `what()` is one plain sentence for a person.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::kInternal)
      : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

namespace detail {
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}
}  // namespace detail

/// Throws Error with `code` and the concatenation of `parts`.
template <class... Parts>
[[noreturn]] void fail(ExitCode code, const Parts&... parts) {
  throw Error(detail::concat(parts...), code);
}

}  // namespace onpa

/// Checks an invariant of an op or a public function: `ONPA_CHECK(cond, "layer_norm: weight ",
/// w.shape(), ", want (", C, ")")`. Throws Error (kInternal); the message names op, got and want.
#define ONPA_CHECK(cond, ...)                                            \
  do {                                                                   \
    if (!(cond)) ::onpa::fail(::onpa::ExitCode::kInternal, __VA_ARGS__); \
  } while (0)
