#include "bench/vs_torch/protocol.h"

#include <immintrin.h>

#include <chrono>
#include <exception>
#include <iostream>
#include <stdexcept>

namespace onpa::vs {
namespace {

constexpr std::size_t kSentValues = 4096;
constexpr unsigned kFlushDenormals = 0x8040;  // MXCSR: results and operands that are denormal are 0

Json handle(const Json& request, Work& work, const std::function<Work(const Job&)>& prepare,
            const std::map<std::string, Handler>& more) {
  const std::string what = request.at("do");
  if (what == "prepare") {
    work = {};
    work = prepare(job_of(request));
    return {{"ok", true}};
  }
  if (what == "check") return {{"outputs", work.check().json()}};
  if (what == "run") {
    const int calls = request.at("calls");
    const auto start = std::chrono::steady_clock::now();
    for (int call = 0; call < calls; ++call) work.run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return {{"seconds", took.count()}};
  }
  if (what == "drop") {
    work = {};
    return {{"ok", true}};
  }
  const auto found = more.find(what);
  if (found == more.end()) throw std::invalid_argument("unknown command '" + what + "'");
  return found->second(request);
}

}  // namespace

void Outputs::add(const std::string& name, const float* values, std::size_t count) {
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sum += values[i];
    squares += static_cast<double>(values[i]) * values[i];
  }
  Json sent = Json::array();
  const std::size_t distance = count / kSentValues + 1;
  for (std::size_t i = 0; i < count; i += distance) sent.push_back(values[i]);
  json_[name] = {{"count", count}, {"sum", sum}, {"squares", squares}, {"values", sent}};
}

Job job_of(const Json& request) {
  const Json& job = request.at("job");
  return {.kind = job.at("kind"),
          .variant = job.at("variant"),
          .args = job.at("args"),
          .threads = job.at("threads"),
          .folder = job.at("folder").get<std::string>()};
}

int serve(const std::function<Work(const Job&)>& prepare,
          const std::map<std::string, Handler>& more) {
  // Before any thread starts: threads inherit it.
  _mm_setcsr(_mm_getcsr() | kFlushDenormals);
  Work work;
  for (std::string line; std::getline(std::cin, line);) {
    Json reply;
    try {
      reply = handle(Json::parse(line), work, prepare, more);
    } catch (const std::exception& error) {
      reply = {{"error", error.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
  return 0;
}

}  // namespace onpa::vs
