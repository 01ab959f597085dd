// The study as one page for a reader and as tables for other programs.
#pragma once

#include <filesystem>

namespace onpa::apps {

/// Reads STUDY/study.json and writes `page` (STUDY/report.html if it is empty), one file that needs
/// no network, and beside it tables/<name>.csv, .json and .md, one of each for every table that the
/// page shows. All are on the disk before the first takes its place.
/// Throws Error: kInputMissing without study.json, kBadData naming what is wrong in it,
/// kCannotCreate, kIo.
void write_report(const std::filesystem::path& study_folder,
                  const std::filesystem::path& page = {});

}  // namespace onpa::apps
