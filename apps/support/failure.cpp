#include "apps/support/failure.h"

#include <cstdio>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "kernels/error.h"

namespace onpa::apps {
namespace {

Failure make(ExitCode code, std::string message) {
  return {static_cast<int>(code), std::move(message)};
}

}  // namespace

Failure failure_of(const std::exception& error) {
  if (const auto* known = dynamic_cast<const Error*>(&error)) {
    return make(known->code(), known->what());
  }
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return make(ExitCode::kOutOfMemory, "out of memory; a smaller train.batch_size needs less");
  }
  // fmt and filesystem calls that give no code
  if (const auto* system = dynamic_cast<const std::system_error*>(&error)) {
    if (std::ferror(stdout) != 0) {
      return make(ExitCode::kIo, std::string("cannot write to standard output: ") +
                                     std::strerror(system->code().value()));
    }
    return make(ExitCode::kIo, system->what());
  }
  return make(ExitCode::kInternal, std::string("unexpected failure: ") + error.what());
}

}  // namespace onpa::apps
