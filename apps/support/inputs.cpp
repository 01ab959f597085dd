#include "apps/support/inputs.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "apps/support/log.h"
#include "data/file.h"
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

bool is_missing(const std::error_code& error) {
  return error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
}

// Whether there is a file or folder; fails if that cannot be known.
bool exists(const std::string& path, const std::string& where) {
  std::error_code error;
  const bool there = fs::exists(path, error);
  if (!there && error && !is_missing(error)) {
    fail(ExitCode::kIo, where, path, ": cannot open: ", error.message());
  }
  return there;
}

// The audio files of a folder and those below, without following links to folders. What keeps a
// folder from being read ends up in `error`, if that is wanted, else in the log.
void collect(const fs::path& folder, std::vector<std::string>& found, std::error_code* error) {
  std::error_code why;
  for (fs::directory_iterator at(folder, why), end; !why && at != end; at.increment(why)) {
    std::error_code unknown;
    if (at->is_directory(unknown) && !at->is_symlink(unknown)) {
      collect(at->path(), found, nullptr);
    } else if (at->is_regular_file(unknown) && is_audio_name(at->path())) {
      found.push_back(at->path().string());
    }
  }
  if (error != nullptr) {
    *error = why;
  } else if (why) {
    spdlog::warn("{}: cannot open: {}; what is in it is left out", folder.string(), why.message());
  }
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
    } else if (exists(input, where)) {
      out_.push_back(input);
    } else if (input.size() > 1 && input.front() == '@') {
      add_list(input.substr(1));
    } else {
      fail(ExitCode::kInputMissing, where, input, ": no such file or folder");
    }
  }

  void add_list(const std::string& list) {
    std::string text;
    if (list == kStandardInput) {
      use_standard_input();
      text.assign(std::istreambuf_iterator<char>(std::cin), {});
    } else {
      if (!exists(list, "")) fail(ExitCode::kInputMissing, list, ": no such list");
      text = data::read_file(list);
    }
    if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    std::istringstream lines(std::move(text));
    std::int64_t number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      const std::string where = detail::concat(list, ":", number, ": ");
      if (line.front() == '@' && !exists(line, where)) {
        fail(ExitCode::kUsage, where, "a list names files and folders, not lists");
      }
      add(line, where);
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
    collect(folder, found, &error);
    if (error) fail(ExitCode::kIo, where, folder, ": cannot open: ", error.message());
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
    if (list.empty() && inputs.empty()) {
      fail(ExitCode::kUsage, "no inputs: name files, folders or a --list");
    }
    fail(ExitCode::kInputMissing, list.empty() ? inputs.front().substr(1) : list,
         ": names no inputs");
  }
  return out;
}

}  // namespace onpa::apps
