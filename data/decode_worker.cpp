#include "data/decode_worker.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <thread>

#include "audio/decode.h"
#include "data/decode_messages.h"
#include "kernels/error.h"
#include "tensor/io/fault.h"

namespace onpa::data {
namespace {

// Its shadow memory is more than any limit.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitsMemory = false;
#else
constexpr bool kLimitsMemory = true;
#endif
// A file of samples that has grown beyond this gives its memory back.
constexpr std::int64_t kKeptBytes = std::int64_t{64} << 20;

void limit(int resource, std::uint64_t value) {
  rlimit now{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &now) != 0) return;
  now.rlim_cur = now.rlim_max = std::min<rlim_t>(value, now.rlim_max);
  setrlimit(static_cast<__rlimit_resource>(resource), &now);
}

// Ends this process when the other one is gone, even if a file keeps the decoder busy for ever.
void end_with_owner() {
  pollfd end = {.fd = kDecoderSocket, .events = POLLRDHUP, .revents = 0};
  while (poll(&end, 1, -1) < 0 && errno == EINTR) {
  }
  _exit(0);
}

void send_reply(const DecodeReply& reply, std::string_view text = {}) {
  std::array<char, kMaxMessageBytes> message;
  text = text.substr(0, message.size() - sizeof reply);
  std::memcpy(message.data(), &reply, sizeof reply);
  std::copy(text.begin(), text.end(), message.begin() + sizeof reply);
  const std::size_t bytes = sizeof reply + text.size();
  if (send(kDecoderSocket, message.data(), bytes, MSG_NOSIGNAL) < 0) _exit(0);
}

void store(const std::vector<float>& samples) {
  const auto* bytes = reinterpret_cast<const char*>(samples.data());
  const auto size = static_cast<off_t>(samples.size() * sizeof(float));
  for (off_t done = 0; done < size;) {
    const ssize_t n =
        pwrite(kDecoderSamples, bytes + done, static_cast<std::size_t>(size - done), done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == ENOSPC) throw std::bad_alloc();  // of a file in memory
    if (n <= 0) fail(ExitCode::kIo, "the decoder cannot hand over samples: ", std::strerror(errno));
    done += n;
  }
  // What lies behind them stays: pages that are there already cost the next file nothing.
  if (lseek(kDecoderSamples, 0, SEEK_END) > std::max<off_t>(size, kKeptBytes)) {
    if (ftruncate(kDecoderSamples, size) != 0) return;
  }
}

DecodeReply decode(const DecodeRequest& request, const std::string& path) {
  io::carry_out(static_cast<int>(request.fault));
  const audio::Clip clip =
      audio::decode_file(path, {.rate_hz = request.rate_hz,
                                .max_seconds = request.max_seconds,
                                .min_seconds = request.min_seconds,
                                .tolerate_errors = request.tolerate_errors != 0});
  store(clip.samples);
  return {
      .kind = DecodeReply::kSamples, .rate_hz = clip.rate_hz, .samples = std::ssize(clip.samples)};
}

void answer(const DecodeRequest& request, const std::string& path) {
  try {
    send_reply(decode(request, path));
  } catch (const Error& error) {
    send_reply({.kind = DecodeReply::kError, .code = static_cast<int>(error.code())}, error.what());
  } catch (const std::bad_alloc&) {
    send_reply({.kind = DecodeReply::kOutOfMemory});
  } catch (const std::exception& error) {
    send_reply({.kind = DecodeReply::kError, .code = static_cast<int>(ExitCode::kInternal)},
               error.what());
  }
}

}  // namespace

void run_decode_worker(std::uint64_t max_bytes) {
  prctl(PR_SET_NAME, "onpa-decoder");
  limit(RLIMIT_CORE, 0);
  if (kLimitsMemory && max_bytes > 0) limit(RLIMIT_AS, max_bytes);
  try {
    std::thread(end_with_owner).detach();
  } catch (const std::exception& error) {  // the limit leaves no room for it
    send_reply({.kind = DecodeReply::kError}, error.what());
    _exit(0);
  }
  send_reply({.kind = DecodeReply::kReady});
  std::array<char, kMaxMessageBytes> message;
  for (;;) {
    const ssize_t bytes = recv(kDecoderSocket, message.data(), message.size(), 0);
    if (bytes < 0 && errno == EINTR) continue;
    DecodeRequest request;
    if (bytes < static_cast<ssize_t>(sizeof request)) _exit(0);
    std::memcpy(&request, message.data(), sizeof request);
    answer(request, {message.data() + sizeof request, message.data() + bytes});
  }
}

}  // namespace onpa::data
