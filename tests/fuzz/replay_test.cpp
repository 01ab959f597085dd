// Every input of the corpus through its target: what was found once stays fixed.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "data/file.h"
#include "tests/fuzz/target.h"

namespace onpa::fuzz {
namespace {

namespace fs = std::filesystem;

class Corpus : public ::testing::TestWithParam<std::string> {};

TEST_P(Corpus, IsHarmless) {
  const Target target = find_target(GetParam());
  ASSERT_NE(target, nullptr);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(ONPA_FUZZ_CORPUS) / GetParam())) {
    files.push_back(entry.path());
  }
  ASSERT_GE(files.size(), 5u);
  std::ranges::sort(files);
  for (const fs::path& file : files) {
    SCOPED_TRACE(file.filename().string());
    const std::string bytes = data::read_file(file);
    target(std::as_bytes(std::span(bytes)));
    // Cut short, too.
    target(std::as_bytes(std::span(bytes).first(bytes.size() / 2)));
  }
}

INSTANTIATE_TEST_SUITE_P(Fuzz, Corpus,
                         ::testing::Values("audio", "card", "config", "csv", "manifest", "pickle",
                                           "safetensors", "torch_file"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace onpa::fuzz
