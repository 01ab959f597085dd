// Runs the command `onpa` as a user would.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temp_folder.h"

extern char** environ;

namespace onpa::testing {

struct CommandResult {
  int code = -1;    // exit code, or 128 + signal
  std::string out;  // stdout
  std::string err;  // stderr
};

/// A running command.
class Command {
 public:
  Command(const std::vector<std::string>& args, const std::map<std::string, std::string>& env = {})
      : Command(ONPA_COMMAND, args, env) {}
  /// Any other program.
  Command(const std::string& program, const std::vector<std::string>& args,
          const std::map<std::string, std::string>& env) {
    std::vector<std::string> words = {program};
    words.insert(words.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::vector<std::string> variables;
    for (char** v = environ; *v != nullptr; ++v) {
      if (std::string(*v).rfind("ONPA_", 0) != 0) variables.push_back(*v);
    }
    for (const auto& [name, value] : env) variables.push_back(name + "=" + value);
    std::vector<char*> envp;
    for (std::string& v : variables) envp.push_back(v.data());
    envp.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&actions, 1, (folder_ / "out").c_str(), flags, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, (folder_ / "err").c_str(), flags, 0600);
    if (posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), envp.data()) != 0) {
      pid_ = -1;
    }
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Command() {
    if (pid_ > 0) {
      send(SIGKILL);
      wait();
    }
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  void send(int number) const {
    if (pid_ > 0) kill(pid_, number);
  }
  pid_t pid() const { return pid_; }
  std::string err() const { return read_bytes(folder_ / "err"); }
  /// Waits until stderr holds `text`; false if the command ended, or 60 s passed, without it.
  bool wait_for(const std::string& text) {
    for (int i = 0; i < 6000; ++i) {
      if (err().find(text) != std::string::npos) return true;
      siginfo_t info{};
      if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
          info.si_pid == pid_) {
        return err().find(text) != std::string::npos;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  CommandResult wait() {
    int status = 0;
    CommandResult result;
    if (pid_ <= 0 || waitpid(pid_, &status, 0) != pid_) return result;
    pid_ = -1;
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.out = read_bytes(folder_ / "out");
    result.err = err();
    return result;
  }

 private:
  TempFolder folder_;
  pid_t pid_ = -1;
};

inline CommandResult run_command(const std::vector<std::string>& args,
                                 const std::map<std::string, std::string>& env = {}) {
  return Command(args, env).wait();
}

}  // namespace onpa::testing
