// Input files of a verb: what the command line names, folders taken apart.
#pragma once

#include <string>
#include <vector>

namespace onpa::apps {

/// Files as given; a folder stands for the audio files in it and below (mp3, wav, flac, ogg, m4a),
/// sorted by path. Throws Error (kInputMissing) for a path that does not exist or a folder without
/// audio.
std::vector<std::string> expand_inputs(const std::vector<std::string>& inputs);

}  // namespace onpa::apps
