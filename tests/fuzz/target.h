// What a fuzz target is: a function that takes any bytes. It lets onpa's own errors of the kinds
// that it names pass and crashes on all else: another exception, another kind of error, a property
// that does not hold. Each target is a program of libFuzzer's (tests/fuzz/CMakeLists.txt), and part
// of test_fuzz, which replays the corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "kernels/error.h"

namespace onpa::fuzz {

using Bytes = std::span<const std::byte>;
using Target = void (*)(Bytes);

/// The target of that name; null if there is none.
Target find_target(std::string_view name);

/// Called by static objects, one a target.
struct Registration {
  Registration(const char* name, Target target);
};

inline std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Ends the program, so that a fuzzer keeps the input.
[[noreturn]] inline void broken(const std::string& what) {
  std::fprintf(stderr, "fuzz target: %s\n", what.c_str());
  std::abort();
}
inline void require(bool good, const char* what) {
  if (!good) broken(what);
}

/// Runs `f`; true if it returned, false if it threw an Error of one of `allowed`.
template <class F>
bool survives(std::initializer_list<ExitCode> allowed, F&& f) {
  try {
    f();
    return true;
  } catch (const Error& error) {
    for (const ExitCode code : allowed) {
      if (error.code() == code) return false;
    }
    broken(std::string("error of another kind: ") + error.what());
  } catch (const std::exception& error) {
    broken(std::string("exception: ") + error.what());
  }
}

/// Bytes as a file that has a path, in memory.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::filesystem::path path() const;

 private:
  int file_;
};

}  // namespace onpa::fuzz

/// Defines a target: ONPA_FUZZ_TARGET(csv, bytes) { ... }
#define ONPA_FUZZ_TARGET(name, bytes)                                           \
  static void fuzz_##name(::onpa::fuzz::Bytes bytes);                           \
  static const ::onpa::fuzz::Registration register_##name(#name, &fuzz_##name); \
  static void fuzz_##name(::onpa::fuzz::Bytes bytes)
