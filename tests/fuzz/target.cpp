#include "tests/fuzz/target.h"

#include <sys/mman.h>
#include <unistd.h>

#include <map>

namespace onpa::fuzz {
namespace {

std::map<std::string, Target, std::less<>>& targets() {
  static std::map<std::string, Target, std::less<>> all;
  return all;
}

}  // namespace

Target find_target(std::string_view name) {
  const auto found = targets().find(name);
  return found == targets().end() ? nullptr : found->second;
}

Registration::Registration(const char* name, Target target) {
  targets()[name] = target;
}

MemoryFile::MemoryFile(Bytes bytes) : file_(memfd_create("fuzz", MFD_CLOEXEC)) {
  std::size_t done = 0;
  while (file_ >= 0 && done < bytes.size()) {
    const ssize_t count = write(file_, bytes.data() + done, bytes.size() - done);
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  require(file_ >= 0 && done == bytes.size(), "no memory for a file");
}

MemoryFile::~MemoryFile() {
  close(file_);
}

std::filesystem::path MemoryFile::path() const {
  return "/proc/self/fd/" + std::to_string(file_);
}

}  // namespace onpa::fuzz
