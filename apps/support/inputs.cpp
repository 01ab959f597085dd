#include "apps/support/inputs.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>

#include "kernels/error.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

bool is_audio_name(const fs::path& path) {
  constexpr std::array<std::string_view, 5> kEndings = {".mp3", ".wav", ".flac", ".ogg", ".m4a"};
  std::string ending = path.extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::find(kEndings.begin(), kEndings.end(), ending) != kEndings.end();
}

}  // namespace

std::vector<std::string> expand_inputs(const std::vector<std::string>& inputs) {
  std::vector<std::string> out;
  for (const std::string& input : inputs) {
    std::error_code error;
    if (!fs::exists(input, error)) fail(ExitCode::kInputMissing, input, ": no such file or folder");
    if (!fs::is_directory(input, error)) {
      out.push_back(input);
      continue;
    }
    std::vector<std::string> found;
    const auto options = fs::directory_options::skip_permission_denied;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(input, options)) {
      if (entry.is_regular_file(error) && is_audio_name(entry.path())) {
        found.push_back(entry.path().string());
      }
    }
    if (found.empty()) fail(ExitCode::kInputMissing, input, ": no audio files in this folder");
    std::sort(found.begin(), found.end());
    out.insert(out.end(), found.begin(), found.end());
  }
  return out;
}

}  // namespace onpa::apps
