// Input files of a verb: what the command line names, folders taken apart.
#pragma once

#include <string>
#include <vector>

namespace onpa::apps {

/// What stands for standard input among inputs, and as a list.
inline constexpr const char* kStandardInput = "-";

/// Files as given; a folder stands for the audio files in it and below (mp3, wav, flac, ogg, m4a),
/// sorted by path; @FILE, unless there is such a file, for what the lines of FILE name, and so does
/// `list` if it is given. "-" stays: it is audio from standard input, or, as a list, a list from
/// there. A folder below one that is named and that may not be read is left out, with a warning.
/// Throws Error: kInputMissing for a path that does not exist, a folder without audio or lists that
/// name nothing, naming the list and the line; kIo for what may not be read; kUsage for no input at
/// all, or if standard input is to be read twice.
std::vector<std::string> expand_inputs(const std::vector<std::string>& inputs,
                                       const std::string& list = "");

}  // namespace onpa::apps
