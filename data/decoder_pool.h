// Decoding in processes of their own, so that a file on which a decoder crashes, hangs or takes all
// memory is a bad file and not the end of a run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "audio/clip.h"

namespace onpa::data {

struct DecoderOptions {
  /// A program, with its arguments, that calls run_decode_worker(); its last argument becomes the
  /// limit of its address space in bytes. Empty: decode in this process.
  std::vector<std::string> command;
  double seconds = 60;                               // of a file, until its decoder is killed
  std::uint64_t max_bytes = std::uint64_t{4} << 30;  // of a decoder's address space; 0: no limit
};

/// As many decoders as threads that decode at once, started when they are first needed and kept.
/// Thread-safe.
///
/// A decoder that dies, takes too long or too much memory makes its file a bad one, and another
/// takes its place; one that somebody else killed (SIGKILL) is given the file once more. Where no
/// process can be had the file is decoded in this one: a lack of processes does not end a run.
class DecoderPool {
 public:
  explicit DecoderPool(DecoderOptions options);
  /// Ends the processes.
  ~DecoderPool();
  DecoderPool(const DecoderPool&) = delete;
  DecoderPool& operator=(const DecoderPool&) = delete;

  /// As audio::decode_file(path), sample by sample and error by error. Throws Error (kBadData)
  /// naming path and reason where the decoder did not survive, kStopped after cancel().
  audio::Clip decode(const std::filesystem::path& path);
  /// Files that are being decoded fail soon.
  void cancel();
  /// Why no process could be had, the first time; empty if there was always one.
  std::string problem() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace onpa::data
