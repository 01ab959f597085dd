#include "apps/support/inputs.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string_view>
#include <utility>

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

// Expands inputs and counts how often standard input is wanted.
class Expander {
 public:
  void add(const std::string& input, const std::string& where) {
    std::error_code error;
    if (input == kStandardInput) {
      use_standard_input();
      out_.push_back(input);
    } else if (fs::is_directory(input, error)) {
      add_folder(input, where);
    } else if (fs::exists(input, error)) {
      out_.push_back(input);
    } else if (input.size() > 1 && input.front() == '@') {
      add_list(input.substr(1));
    } else {
      fail(ExitCode::kInputMissing, where, input, ": no such file or folder");
    }
  }

  void add_list(const std::string& list) {
    std::ifstream file;
    if (list == kStandardInput) {
      use_standard_input();
    } else {
      file.open(list);
      if (!file) fail(ExitCode::kInputMissing, list, ": no such list");
    }
    std::istream& lines = list == kStandardInput ? std::cin : file;
    std::int64_t number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      if (line.front() == '@') {
        fail(ExitCode::kUsage, list, ":", number, ": a list names files and folders, not lists");
      }
      add(line, detail::concat(list, ":", number, ": "));
    }
  }

  std::vector<std::string> take() { return std::move(out_); }

 private:
  void use_standard_input() {
    if (std::exchange(standard_input_, true)) {
      fail(ExitCode::kUsage, "standard input can be read once");
    }
  }
  void add_folder(const std::string& folder, const std::string& where) {
    std::vector<std::string> found;
    std::error_code error;
    const auto options = fs::directory_options::skip_permission_denied;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder, options)) {
      if (entry.is_regular_file(error) && is_audio_name(entry.path())) {
        found.push_back(entry.path().string());
      }
    }
    if (found.empty()) {
      fail(ExitCode::kInputMissing, where, folder, ": no audio files in this folder");
    }
    std::sort(found.begin(), found.end());
    out_.insert(out_.end(), found.begin(), found.end());
  }

  std::vector<std::string> out_;
  bool standard_input_ = false;
};

}  // namespace

std::vector<std::string> expand_inputs(const std::vector<std::string>& inputs,
                                       const std::string& list) {
  Expander expander;
  for (const std::string& input : inputs) expander.add(input, "");
  if (!list.empty()) expander.add_list(list);
  std::vector<std::string> out = expander.take();
  if (out.empty()) {
    if (list.empty()) fail(ExitCode::kUsage, "no inputs: name files, folders or a --list");
    fail(ExitCode::kInputMissing, list, ": names no inputs");
  }
  return out;
}

}  // namespace onpa::apps
