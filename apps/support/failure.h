// What an exception means to the person who called the command.
#pragma once

#include <exception>
#include <string>

namespace onpa::apps {

struct Failure {
  int code = 0;  // exit code
  std::string message;
};

/// Of any exception that reaches the top.
Failure failure_of(const std::exception& error);

}  // namespace onpa::apps
