// What the C++ workers of the comparison with PyTorch share. A worker reads one JSON object a line
// from stdin and answers each with one line on stdout:
//   {"do":"prepare","job":{"kind","variant","args","threads","folder"}}   builds a row's work
//   {"do":"check"}               runs it from its inputs; what it made, to be compared
//   {"do":"run","calls":N}       runs it N times; {"seconds": of all N}
//   {"do":"drop"}                frees it
// Any failure is answered with {"error": reason}. The worker ends when stdin does.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace onpa::vs {

using Json = nlohmann::json;

/// Results of a row, small enough to send: of each array the count, the sum, the sum of squares and
/// some thousand values at a fixed distance.
class Outputs {
 public:
  void add(const std::string& name, const float* values, std::size_t count);
  const Json& json() const { return json_; }

 private:
  Json json_ = Json::object();
};

/// A row, ready to run. Whatever it needs lives in the closures.
struct Work {
  std::function<Outputs()> check;  // called once, before run
  std::function<void()> run;       // one repetition
};

struct Job {
  std::string kind, variant;
  Json args;
  int threads = 1;
  std::filesystem::path folder;  // inputs.safetensors, and room for files
};

using Handler = std::function<Json(const Json& request)>;

/// Serves stdin until it ends; `prepare` makes the work of a job, `more` are commands beyond those
/// above. Returns the exit status.
int serve(const std::function<Work(const Job&)>& prepare,
          const std::map<std::string, Handler>& more);

/// The job of a request. Throws nlohmann::json::exception where a field is missing.
Job job_of(const Json& request);

}  // namespace onpa::vs
