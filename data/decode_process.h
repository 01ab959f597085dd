// A decoder in a process of its own, as the process that uses it sees it. Private to data/.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "audio/clip.h"
#include "data/decode_messages.h"
#include "data/decoder_pool.h"

namespace onpa::data {

/// No decoder can be had; what() says why.
class NoDecoder : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The decoder is gone, or was ended, with a file; what() says how. Whether somebody else has
/// killed it, which need not be the file's fault.
class DecoderDied : public std::runtime_error {
 public:
  DecoderDied(const std::string& how, bool by_others)
      : std::runtime_error(how), by_others_(by_others) {}
  bool by_others() const { return by_others_; }

 private:
  bool by_others_;
};

/// One process, to be used by one thread at a time.
class DecodeProcess {
 public:
  /// Starts it and waits until it is ready. Throws NoDecoder. Where `cancelled` becomes true, what
  /// waits gives up soon. Both must outlive this.
  DecodeProcess(const DecoderOptions& options, const std::atomic<bool>& cancelled);
  ~DecodeProcess();
  DecodeProcess(const DecodeProcess&) = delete;
  DecodeProcess& operator=(const DecodeProcess&) = delete;

  /// As audio::decode_file(path), and throws what that throws. Throws DecoderDied, and Error
  /// (kStopped) if cancelled; the process is gone then. `fault` is one of io::order_fault().
  audio::Clip decode(const std::filesystem::path& path, int fault);
  bool alive() const { return process_ >= 0; }

 private:
  class Descriptor {
   public:
    Descriptor() = default;
    ~Descriptor() { reset(-1); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    void reset(int fd);
    int get() const { return fd_; }

   private:
    int fd_ = -1;
  };

  void spawn();
  void send(const std::filesystem::path& path, int fault);
  // Waits `seconds` at most; false if nothing came.
  bool wait_for_message(double seconds);
  // A message and the text behind its head; false if the connection has ended.
  bool receive(DecodeReply& reply, std::string& text);
  audio::Clip take_samples(const DecodeReply& reply);
  // Makes sure that the process is gone; returns how it ended.
  std::string end(bool kill);

  const DecoderOptions& options_;
  const std::atomic<bool>& cancelled_;
  Descriptor socket_, samples_;
  pid_t process_ = -1;  // -1: none that is left to be waited for
};

}  // namespace onpa::data
