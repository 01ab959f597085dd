// What the program is and what it runs on, for bug reports and run folders.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace onpa::apps {

/// "onpa 0.1.0 (commit abc1234)".
std::string version_line();

/// Name and value of everything that helps to place a result: version, commit, compiler, CPU,
/// SIMD target, cores, threads, memory, libraries, host, system.
std::vector<std::pair<std::string, std::string>> describe_environment();

/// The same as one JSON object, indented.
std::string environment_json();

}  // namespace onpa::apps
