// Files that a verb writes.
#pragma once

#include <string>
#include <vector>

namespace onpa::apps {

/// A file, and the option that names it. An empty path stands for none.
struct OutputFile {
  std::string option, path;
};

/// Throws Error: kUsage if two are one file, also through links; kCannotCreate for what can be no
/// file (io::place_of()).
void require_distinct(const std::vector<OutputFile>& files);

/// Throws Error (kUsage) if a file would replace one of the inputs, also through links.
void keep_inputs(const std::vector<OutputFile>& files, const std::vector<std::string>& inputs);

}  // namespace onpa::apps
