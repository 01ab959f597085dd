// A real file system that can be filled to the last byte: a tmpfs in a mount namespace of its own.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "tests/support/temp_folder.h"

namespace onpa::testing {

/// A child process holds the namespace; its files are reached through /proc/PID/root, so that
/// nothing is mounted where others see it, and everything goes with the child. Machines differ in
/// whether a user may do this: a test must look at reason() first.
class SmallDisk {
 public:
  explicit SmallDisk(std::size_t bytes) {
    int ready[2], end[2];
    if (::pipe2(ready, O_CLOEXEC) != 0 || ::pipe2(end, O_CLOEXEC) != 0) return;
    const std::string options = "size=" + std::to_string(bytes);
    const uid_t uid = ::getuid();
    const gid_t gid = ::getgid();
    child_ = ::fork();
    if (child_ == 0) {
      ::close(ready[0]);
      ::close(end[1]);
      const std::string reason = mount_here(options, uid, gid);
      const std::string answer = reason.empty() ? "ok" : reason;
      if (::write(ready[1], answer.data(), answer.size()) < 0) ::_exit(1);
      ::close(ready[1]);
      char byte;
      while (::read(end[0], &byte, 1) < 0 && errno == EINTR) continue;  // until the parent is gone
      ::_exit(0);
    }
    ::close(ready[1]);
    ::close(end[0]);
    end_ = end[1];
    char answer[256] = {};
    const ssize_t count = ::read(ready[0], answer, sizeof answer - 1);
    ::close(ready[0]);
    reason_ = count > 0 ? answer : "the child died";
    if (reason_ == "ok") reason_.clear();
    path_ = "/proc/" + std::to_string(child_) + "/root" + mount_point_.path().string();
    std::error_code error;
    if (reason_.empty() && std::filesystem::space(path_, error).capacity > bytes) {
      reason_ = "the file system of the namespace cannot be seen from outside";
    }
  }
  ~SmallDisk() {
    if (end_ >= 0) ::close(end_);
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  /// Why there is no such file system on this machine; empty if there is one.
  const std::string& reason() const { return reason_; }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }
  std::size_t free_bytes() const { return std::filesystem::space(path_).available; }

  /// Takes all room but `bytes`.
  void fill(std::size_t bytes = 0) const {
    const int file = ::open((path_ / "filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const std::size_t room = free_bytes();
    const int failed =
        room > bytes ? ::posix_fallocate(file, 0, static_cast<off_t>(room - bytes)) : 0;
    ::close(file);
    if (failed != 0) throw std::runtime_error(std::string("fallocate: ") + std::strerror(failed));
  }
  void make_room() const { std::filesystem::remove(path_ / "filler"); }

 private:
  static bool put(const char* file, const std::string& text) {
    const int descriptor = ::open(file, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    const bool ok =
        ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(descriptor);
    return ok;
  }

  // In the child. Empty if it worked.
  std::string mount_here(const std::string& options, uid_t uid, gid_t gid) const {
    const auto failed = [](const char* what) {
      return std::string(what) + ": " + std::strerror(errno);
    };
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return failed("unshare");
    if (!put("/proc/self/setgroups", "deny") ||
        !put("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1") ||
        !put("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1")) {
      return failed("uid_map");
    }
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return failed("mount");
    if (::mount("onpa-test", mount_point_.path().c_str(), "tmpfs", 0, options.c_str()) != 0) {
      return failed("mount tmpfs");
    }
    return {};
  }

  TempFolder mount_point_;
  pid_t child_ = -1;
  int end_ = -1;
  std::string reason_ = "pipe";
  std::filesystem::path path_;
};

}  // namespace onpa::testing
