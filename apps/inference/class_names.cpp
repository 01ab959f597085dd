#include "apps/inference/class_names.h"

#include <sstream>
#include <string_view>

#include "data/file.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

constexpr std::string_view kAudiosetClasses =
#include "apps/inference/audioset_classes.inc"
    ;

std::vector<std::string> lines_of(std::string text) {
  std::vector<std::string> out;
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  std::istringstream lines(std::move(text));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty() && line.front() != '#') out.push_back(line);
  }
  return out;
}

}  // namespace

const std::vector<std::string>& audioset_classes() {
  static const std::vector<std::string> names = lines_of(std::string(kAudiosetClasses));
  return names;
}

std::vector<std::string> class_names(std::int64_t outputs, const std::filesystem::path& file) {
  if (file.empty()) {
    return outputs == std::ssize(audioset_classes()) ? audioset_classes()
                                                     : std::vector<std::string>();
  }
  std::vector<std::string> names = lines_of(data::read_file(file));
  if (std::ssize(names) != outputs) {
    fail(ExitCode::kUsage, file.string(), ": ", names.size(), " class names, the model has ",
         outputs, " outputs");
  }
  return names;
}

}  // namespace onpa::apps
