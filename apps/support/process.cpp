#include "apps/support/process.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <utility>

#include "kernels/error.h"
#include "tensor/io/file.h"

namespace onpa::apps {
namespace {

struct Fatal {
  int number;
  const char* name;
};
constexpr std::array<Fatal, 5> kSignals = {{{SIGSEGV, "SIGSEGV, a bad address"},
                                            {SIGBUS, "SIGBUS, memory that is not there"},
                                            {SIGFPE, "SIGFPE, bad arithmetic"},
                                            {SIGILL, "SIGILL, an instruction of another CPU"},
                                            {SIGABRT, "SIGABRT"}}};
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitizerReports = true;
#else
constexpr bool kSanitizerReports = false;
#endif
constexpr int kMostCalls = 64;
constexpr std::size_t kStackBytes = 64 << 10;  // a stack that overflowed is of no use
std::atomic<int> unfinished{0};
char who[48] = "onpa: ";  // with the rank, if this is one of several
std::vector<std::string> the_decoder_command;

std::atomic<int> crash_log{-1};  // a file beside stderr

// Where to say what ends the process: the file first, as stderr may be a pipe that nobody empties.
std::array<int, 2> listeners() {
  return {crash_log.load(), STDERR_FILENO};
}

void say(int fd, const char* text) {
  if (write(fd, text, std::strlen(text)) < 0) return;
}

void say(const char* text) {
  for (const int fd : listeners()) {
    if (fd >= 0) say(fd, text);
  }
}

// Only what may be called in a handler.
void on_crash(int number) {
  void* calls[kMostCalls];
  const int count = backtrace(calls, kMostCalls);
  for (const int fd : listeners()) {
    if (fd < 0) continue;
    say(fd, who);
    say(fd, "died of ");
    for (const Fatal& fatal : kSignals) {
      if (fatal.number == number) say(fd, fatal.name);
    }
    say(fd, "; the calls that led there:\n");
    backtrace_symbols_fd(calls, count, fd);
  }
  raise(number);  // the default action, as SA_RESETHAND has put it back
}

void on_end(int number) {
  io::remove_unfinished_files();
  raise(number);  // as in on_crash()
}

[[noreturn]] void on_terminate() {
  if (const std::exception_ptr current = std::current_exception()) {
    try {
      std::rethrow_exception(current);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "onpa: an exception that nobody expects: %s\n", error.what());
    } catch (...) {
      say("onpa: an exception of an unknown type that nobody expects\n");
    }
  }
  abort();
}

// Ends the process if the code that somebody wants to end it with is a lie.
void refuse_success(int code) {
  if (code != 0 || unfinished.load() == 0) return;
  say(who);
  say("exit(0) was called in the middle of the work, which is not done\n");
  _exit(static_cast<int>(ExitCode::kInternal));
}

}  // namespace

void keep_standard_streams() {
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) >= 0) continue;
    // The lowest number that is free is this one. What cannot be written to fails as a closed one.
    if (open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY) != stream) return;
  }
}

const std::vector<std::string>& decoder_command() {
  return the_decoder_command;
}

void set_decoder_command(std::vector<std::string> command) {
  the_decoder_command = std::move(command);
}

void report_crashes(const char* role) {
  if (role != nullptr) std::snprintf(who, sizeof who, "onpa: %.20s: ", role);
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank == nullptr && std::getenv("WORLD_SIZE") != nullptr) rank = std::getenv("RANK");
  if (rank != nullptr) {
    const char* of = role == nullptr ? "" : role;
    std::snprintf(who, sizeof who, "onpa: rank %.10s: %.20s%s", rank, of, role ? ": " : "");
  }
  if (kSanitizerReports) return;
  std::set_terminate(on_terminate);
  void* first[1];
  backtrace(first, 1);  // loads what it needs, which a handler must not
  static std::array<std::byte, kStackBytes> memory;
  const stack_t stack = {.ss_sp = memory.data(), .ss_flags = 0, .ss_size = memory.size()};
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = on_crash;
  // Not blocked while it runs, so that a crash in the handler ends the process too.
  action.sa_flags = static_cast<int>(SA_ONSTACK | SA_RESETHAND | SA_NODEFER);
  for (const Fatal& fatal : kSignals) sigaction(fatal.number, &action, nullptr);
}

void report_crashes_in(const std::filesystem::path& log) {
  const int fd = open(log.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) return;
  const int old = crash_log.exchange(fd);
  if (old >= 0) close(old);
}

void remove_files_on_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    struct sigaction action {};
    if (sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
    action.sa_handler = on_end;
    action.sa_flags = static_cast<int>(SA_ONSTACK | SA_RESETHAND | SA_NODEFER);
    sigaction(number, &action, nullptr);
  }
}

void die_with_parent() {
  const char* parent = std::getenv(kParentVariable);
  if (parent == nullptr) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != std::atoi(parent)) raise(SIGKILL);  // it was gone before
  unsetenv(kParentVariable);  // processes that this one starts have another
}

Unfinished::Unfinished() {
  ++unfinished;
}
Unfinished::~Unfinished() {
  --unfinished;
}

}  // namespace onpa::apps

// Stands before that of the C library, for libraries too. A handler that on_exit() registers comes
// too late: what was made after it is torn down ahead of it while other threads still use it, and
// the process dies of that instead.
extern "C" [[noreturn]] void exit(int code) noexcept {
  onpa::apps::refuse_success(code);
  using Exit = void (*)(int);
  reinterpret_cast<Exit>(dlsym(RTLD_NEXT, "exit"))(code);
  _exit(code);
}
