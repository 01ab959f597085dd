#include "data/decode_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "audio/decode.h"
#include "kernels/error.h"

namespace onpa::data {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kSlice{100};
// What a slice counts for at most: in more the machine, or this process, slept.
constexpr double kMostOfSlice = 1;
// From the start of a process to its first word; its program may lie on a slow file system.
constexpr double kStartSeconds = 60;
// A process that was killed is gone at once, or hangs in the kernel and goes when it can.
constexpr double kEndSeconds = 2;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

[[noreturn]] void no_decoder(const char* what, int error) {
  throw NoDecoder(detail::concat("no process for decoding: ", what, ": ", std::strerror(error)));
}

// A descriptor above those that the process has in their place.
int above_reserved(int fd) {
  const int out = fcntl(fd, F_DUPFD_CLOEXEC, kDecoderSamples + 1);
  const int error = errno;
  close(fd);
  if (out < 0) no_decoder("fcntl", error);
  return out;
}

// How posix_spawn() starts a decoder: with no descriptors but its own and stderr, and deaf to every
// signal that a crash does not raise. Ctrl-C, or a scheduler's signals to a whole group, are for
// the process that it works for.
class SpawnPlan {
 public:
  SpawnPlan(int socket, int samples) {
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, socket, kDecoderSocket);
    posix_spawn_file_actions_adddup2(&files, samples, kDecoderSamples);
    posix_spawn_file_actions_addclosefrom_np(&files, kDecoderSamples + 1);
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP}) {
      sigdelset(&blocked, number);
    }
    posix_spawnattr_setsigmask(&attributes, &blocked);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
};

std::string describe(int status) {
  if (WIFEXITED(status)) {
    return detail::concat("the decoder ended with code ", WEXITSTATUS(status));
  }
  const char* name = sigabbrev_np(WTERMSIG(status));
  if (name == nullptr) return detail::concat("the decoder died of signal ", WTERMSIG(status));
  return detail::concat("the decoder died of SIG", name);
}

}  // namespace

void DecodeProcess::Descriptor::reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

DecodeProcess::DecodeProcess(const DecoderOptions& options, const std::atomic<bool>& cancelled)
    : options_(options), cancelled_(cancelled) {
  spawn();
  DecodeReply reply;
  std::string text;
  try {
    if (!wait_for_message(kStartSeconds)) {
      end(true);
      throw NoDecoder(detail::concat("the decoder was not ready in ", kStartSeconds, " s"));
    }
    if (!receive(reply, text)) throw NoDecoder(end(false) + " when it was started");
    if (reply.kind != DecodeReply::kReady) {
      end(true);
      throw NoDecoder("the decoder cannot start: " + text);
    }
  } catch (const Error& stopped) {
    throw NoDecoder(stopped.what());
  }
}

DecodeProcess::~DecodeProcess() {
  if (alive()) end(true);
}

void DecodeProcess::spawn() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    no_decoder("socketpair", errno);
  }
  socket_.reset(ends[0]);
  Descriptor socket;
  socket.reset(above_reserved(ends[1]));
  const int samples = memfd_create("onpa-decoder", MFD_CLOEXEC);
  if (samples < 0) no_decoder("memfd_create", errno);
  samples_.reset(above_reserved(samples));

  std::vector<std::string> words = options_.command;
  words.push_back(std::to_string(options_.max_bytes));
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const SpawnPlan plan(socket.get(), samples_.get());
  pid_t process = -1;
  const int error =
      posix_spawn(&process, arguments[0], &plan.files, &plan.attributes, arguments.data(), environ);
  if (error != 0) no_decoder(arguments[0], error);
  process_ = process;
}

audio::Clip DecodeProcess::decode(const std::filesystem::path& path, int fault) {
  send(path, fault);
  if (!wait_for_message(options_.seconds)) {
    end(true);
    throw DecoderDied(detail::concat("the decoder took more than ", options_.seconds, " s"), false);
  }
  DecodeReply reply;
  std::string text;
  if (!receive(reply, text)) {
    const std::string how = end(false);
    throw DecoderDied(how, how.ends_with("SIGKILL"));
  }
  switch (reply.kind) {
    case DecodeReply::kSamples:
      return take_samples(reply);
    case DecodeReply::kError:
      throw Error(text, static_cast<ExitCode>(reply.code));
    case DecodeReply::kOutOfMemory:
      fail(ExitCode::kBadData, path.string(), ": the decoder ran out of memory");
    default:
      end(true);
      throw DecoderDied("the decoder answered nonsense", false);
  }
}

void DecodeProcess::send(const std::filesystem::path& path, int fault) {
  const audio::DecodeOptions decoding;
  const DecodeRequest request = {.rate_hz = decoding.rate_hz,
                                 .tolerate_errors = decoding.tolerate_errors,
                                 .max_seconds = decoding.max_seconds,
                                 .min_seconds = decoding.min_seconds,
                                 .fault = fault};
  std::string message(sizeof request, '\0');
  std::memcpy(message.data(), &request, sizeof request);
  message += path.native();
  // A path that no system takes; the error is to be that of any other file.
  message.resize(std::min(message.size(), kMaxMessageBytes));
  if (::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL) < 0) {
    // It died while it had nothing to do.
    throw DecoderDied(end(true), true);
  }
}

bool DecodeProcess::wait_for_message(double seconds) {
  double waited = 0;
  for (;;) {
    pollfd message = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const Clock::time_point begin = Clock::now();
    if (poll(&message, 1, static_cast<int>(kSlice.count())) > 0) return true;
    waited += std::min(since(begin), kMostOfSlice);
    if (waited >= seconds) return false;
    if (cancelled_) {
      end(true);
      fail(ExitCode::kStopped, "decoding was cancelled");
    }
  }
}

bool DecodeProcess::receive(DecodeReply& reply, std::string& text) {
  std::array<char, kMaxMessageBytes> message;
  ssize_t bytes;
  do {
    bytes = recv(socket_.get(), message.data(), message.size(), 0);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < static_cast<ssize_t>(sizeof reply)) return false;
  std::memcpy(&reply, message.data(), sizeof reply);
  text.assign(message.data() + sizeof reply, message.data() + bytes);
  return true;
}

// Read, not mapped: whatever the other process does to its file, this one gets no SIGBUS.
audio::Clip DecodeProcess::take_samples(const DecodeReply& reply) {
  struct stat file {};
  constexpr auto kSampleBytes = static_cast<std::int64_t>(sizeof(float));
  if (fstat(samples_.get(), &file) != 0 || reply.samples < 0 ||
      reply.samples > file.st_size / kSampleBytes) {
    end(true);
    throw DecoderDied("the decoder handed over too few samples", false);
  }
  audio::Clip clip{.samples = {}, .rate_hz = static_cast<int>(reply.rate_hz)};
  clip.samples.resize(static_cast<std::size_t>(reply.samples));
  auto* bytes = reinterpret_cast<char*>(clip.samples.data());
  const std::size_t size = clip.samples.size() * sizeof(float);
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = pread(samples_.get(), bytes + done, size - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      end(true);
      throw DecoderDied("the decoder handed over too few samples", false);
    }
    done += static_cast<std::size_t>(n);
  }
  return clip;
}

std::string DecodeProcess::end(bool kill) {
  const pid_t process = std::exchange(process_, -1);
  for (int attempt = kill ? 1 : 0; attempt < 2; ++attempt) {
    if (attempt == 1) ::kill(process, SIGKILL);
    for (const Clock::time_point begin = Clock::now(); since(begin) < kEndSeconds;) {
      int status = 0;
      const pid_t got = waitpid(process, &status, WNOHANG);
      if (got == process) return describe(status);
      // Another part of the program has waited for all children.
      if (got < 0 && errno != EINTR) return "the decoder died";
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return "the decoder hangs in the system";
}

}  // namespace onpa::data
