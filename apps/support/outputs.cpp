#include "apps/support/outputs.h"

#include <filesystem>
#include <map>
#include <system_error>

#include "kernels/error.h"
#include "tensor/io/file.h"

namespace onpa::apps {

void require_distinct(const std::vector<OutputFile>& files) {
  std::map<std::filesystem::path, std::string> options;
  for (const OutputFile& file : files) {
    if (file.path.empty()) continue;
    std::error_code error;
    const std::filesystem::path place = io::place_of(file.path);
    auto whole = std::filesystem::weakly_canonical(std::filesystem::absolute(place, error), error);
    if (error) whole = place.lexically_normal();
    const auto [other, is_new] = options.emplace(whole, file.option);
    if (!is_new) {
      fail(ExitCode::kUsage, other->second, " and ", file.option,
           " name the same file: ", file.path);
    }
  }
}

void keep_inputs(const std::vector<OutputFile>& files, const std::vector<std::string>& inputs) {
  for (const OutputFile& file : files) {
    std::error_code error;
    if (file.path.empty() || !std::filesystem::is_regular_file(file.path, error)) continue;
    for (const std::string& input : inputs) {
      if (std::filesystem::equivalent(file.path, input, error)) {
        fail(ExitCode::kUsage, file.option, ": ", file.path, " is the input ", input,
             "; want another file");
      }
    }
  }
}

}  // namespace onpa::apps
