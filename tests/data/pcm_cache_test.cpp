#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "data/loader.h"
#include "tests/data/support.h"

namespace onpa::data {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

constexpr std::uint64_t kPlenty = 1 << 20;
constexpr std::uint64_t kHeaderBytes = 48;

// A source file and a decoder that counts how often it runs.
class CachedFile {
 public:
  CachedFile(const TempFolder& folder, const std::string& name, std::vector<float> samples)
      : path_(folder / name), samples_(std::move(samples)) {
    write_bytes(path_, name);
  }
  std::vector<float> get(PcmCache& cache) {
    return cache.get(path_, [&] {
      ++decoded_;
      return audio::Clip{samples_, audio::kModelRateHz};
    });
  }
  int decoded() const { return decoded_; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  std::vector<float> samples_;
  std::atomic<int> decoded_ = 0;
};

std::vector<fs::path> files_under(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  return files;
}

std::vector<float> wave(std::size_t n) {
  std::vector<float> samples(n);
  for (std::size_t i = 0; i < n; ++i) samples[i] = 0.9f * std::sin(0.37f * static_cast<float>(i));
  return samples;
}

TEST(PcmCache, SecondReadIsAHitWithTheSameSamples) {
  const TempFolder folder;
  for (const std::size_t n : {0u, 1u, 997u}) {
    SCOPED_TRACE(n);
    CachedFile file(folder, "a" + std::to_string(n), wave(n));
    PcmCache cache(folder / "cache", kPlenty);
    const auto cold = file.get(cache), warm = file.get(cache);
    EXPECT_EQ(cold, warm);
    EXPECT_EQ(file.decoded(), 1);
    ASSERT_EQ(cold.size(), n);
    // Rounding to 16 bits moves a sample by at most half a step.
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(cold[i], wave(n)[i], 0.5 / 32768);
    PcmCache reopened(folder / "cache", kPlenty);
    EXPECT_EQ(file.get(reopened), cold);
    EXPECT_EQ(file.decoded(), 1);
    EXPECT_EQ(cache.stats().hits, 1u);
    EXPECT_EQ(cache.stats().misses, 1u);
  }
}

TEST(PcmCache, ClipsWhatSixteenBitsCannotHold) {
  const TempFolder folder;
  CachedFile file(folder, "a", {2, -2, 1, -1});
  PcmCache cache(folder / "cache", kPlenty);
  const float top = 32767.0f / 32768;
  EXPECT_EQ(file.get(cache), (std::vector<float>{top, -1, top, -1}));
}

TEST(PcmCache, AnyFlippedBitIsNoticed) {
  const TempFolder folder;
  CachedFile file(folder, "a", wave(5));
  PcmCache cache(folder / "cache", kPlenty);
  const auto samples = file.get(cache);
  const fs::path entry = files_under(folder / "cache").at(0);
  const std::string good = read_bytes(entry);
  ASSERT_EQ(good.size(), kHeaderBytes + 10);
  int decoded = 1;
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << (byte % 8)));
    write_bytes(entry, bad);
    EXPECT_EQ(file.get(cache), samples);
    EXPECT_EQ(file.decoded(), ++decoded) << "byte " << byte;
    EXPECT_EQ(read_bytes(entry), good);
  }
  EXPECT_EQ(cache.stats().damaged, good.size());
}

TEST(PcmCache, AnyOtherLengthIsNoticed) {
  const TempFolder folder;
  CachedFile file(folder, "a", wave(5));
  PcmCache cache(folder / "cache", kPlenty);
  const auto samples = file.get(cache);
  const fs::path entry = files_under(folder / "cache").at(0);
  const std::string good = read_bytes(entry);
  int decoded = 1;
  for (std::size_t length = 0; length < good.size() + 3; ++length) {
    if (length == good.size()) continue;
    std::string bad = good;
    bad.resize(length);
    write_bytes(entry, bad);
    EXPECT_EQ(file.get(cache), samples);
    EXPECT_EQ(file.decoded(), ++decoded) << "length " << length;
  }
}

TEST(PcmCache, AChangedSourceIsDecodedAgain) {
  const TempFolder folder;
  CachedFile file(folder, "a", wave(5));
  PcmCache cache(folder / "cache", kPlenty);
  file.get(cache);
  write_bytes(file.path(), "longer than before");
  file.get(cache);
  EXPECT_EQ(file.decoded(), 2);
  fs::last_write_time(file.path(), fs::last_write_time(file.path()) + std::chrono::seconds(5));
  file.get(cache);
  EXPECT_EQ(file.decoded(), 3);
  file.get(cache);
  EXPECT_EQ(file.decoded(), 3);
  EXPECT_EQ(cache.stats().damaged, 0u);
}

TEST(PcmCache, DecoderErrorsPassAndNothingIsKept) {
  const TempFolder folder;
  PcmCache cache(folder / "cache", kPlenty);
  write_bytes(folder / "bad", "x");
  for (const char* name : {"bad", "missing"}) {
    expect_error(ExitCode::kBadData, {"no frames"}, [&] {
      cache.get(folder / name, []() -> audio::Clip { fail(ExitCode::kBadData, "no frames"); });
    });
  }
  EXPECT_TRUE(files_under(folder / "cache").empty());
}

TEST(PcmCache, TheOldestEntriesGoFirst) {
  const TempFolder folder;
  const std::uint64_t entry_bytes = kHeaderBytes + 2 * 1000;
  PcmCache cache(folder / "cache", 4 * entry_bytes);
  std::vector<std::unique_ptr<CachedFile>> files;
  for (int i = 0; i < 6; ++i) {
    files.push_back(std::make_unique<CachedFile>(folder, std::to_string(i), wave(1000)));
    files.back()->get(cache);
    // Some file systems keep times of a few milliseconds.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  // The fifth entry makes room for a sixteenth of the limit too: one goes by one.
  EXPECT_LE(cache.stats().bytes, 4 * entry_bytes);
  std::uint64_t on_disk = 0;
  for (const fs::path& path : files_under(folder / "cache")) on_disk += fs::file_size(path);
  EXPECT_EQ(on_disk, cache.stats().bytes);
  EXPECT_EQ(files_under(folder / "cache").size() + cache.stats().evicted, 6u);
  EXPECT_GE(cache.stats().evicted, 2u);
  // What is left are the youngest, so reading those decodes nothing.
  const std::size_t left = files_under(folder / "cache").size();
  for (std::size_t i = 6 - left; i < 6; ++i) {
    files[i]->get(cache);
    EXPECT_EQ(files[i]->decoded(), 1) << i;
  }
  files[0]->get(cache);
  EXPECT_EQ(files[0]->decoded(), 2);
}

TEST(PcmCache, AFolderOverTheLimitIsShrunkWhenOpened) {
  const TempFolder folder;
  CachedFile a(folder, "a", wave(1000)), b(folder, "b", wave(1000));
  {
    PcmCache cache(folder / "cache", kPlenty);
    a.get(cache);
    b.get(cache);
  }
  PcmCache smaller(folder / "cache", 3000);
  EXPECT_EQ(smaller.stats().evicted, 1u);
  EXPECT_EQ(files_under(folder / "cache").size(), 1u);
}

TEST(PcmCache, LeavesOtherFilesAlone) {
  const TempFolder folder;
  fs::create_directories(folder / "cache/ab");
  for (const char* name : {"notes.pcm", "ab/take1.pcm", "ab/0123456789abcdef.pcm"}) {
    write_bytes(folder / "cache" / name, std::string(100, 'x'));
  }
  CachedFile file(folder, "a", wave(10));
  PcmCache cache(folder / "cache", 1);
  file.get(cache);
  EXPECT_EQ(files_under(folder / "cache").size(), 3u);
}

TEST(PcmCache, RemovesWhatKilledWritersLeft) {
  const TempFolder folder;
  fs::create_directories(folder / "cache/01");
  const fs::path old_part = folder / "cache/01/.tmp-0123456789abcdef.pcm-1-0";
  const fs::path new_part = folder / "cache/01/.tmp-0123456789abcdef.pcm-2-0";
  write_bytes(old_part, "x");
  write_bytes(new_part, "x");
  fs::last_write_time(old_part, fs::file_time_type::clock::now() - std::chrono::hours(2));
  const PcmCache cache(folder / "cache", kPlenty);
  EXPECT_FALSE(fs::exists(old_part));
  EXPECT_TRUE(fs::exists(new_part));
}

TEST(PcmCache, AnUnwritableFolderCostsOnlySpeed) {
  const TempFolder folder;
  CachedFile file(folder, "a", wave(10));
  PcmCache cache(folder / "cache", kPlenty);
  // A file in place of the folder stops even root from writing.
  fs::remove_all(folder / "cache");
  write_bytes(folder / "cache", "");
  EXPECT_EQ(file.get(cache).size(), 10u);
  EXPECT_EQ(file.get(cache).size(), 10u);
  EXPECT_EQ(file.decoded(), 2);
  EXPECT_EQ(cache.stats().failed_writes, 2u);
  expect_error(ExitCode::kCannotCreate, {"cache"}, [&] { PcmCache(folder / "cache/x", kPlenty); });
}

TEST(PcmCache, ManyThreadsGetTheSameSamples) {
  const TempFolder folder;
  CachedFile file(folder, "a", wave(5000));
  // Room for one entry of two sizes: entries come and go while they are read.
  CachedFile other(folder, "b", wave(4000));
  PcmCache cache(folder / "cache", 12000);
  const auto want_a = file.get(cache), want_b = other.get(cache);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const bool first = (i + t) % 2 == 0;
        if ((first ? file.get(cache) : other.get(cache)) != (first ? want_a : want_b)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(cache.stats().damaged, 0u);
}

TEST(PcmCache, ManyProcessesMayWriteTheSameEntry) {
  const TempFolder folder;
  CachedFile file(folder, "a", wave(50000));
  fs::create_directories(folder / "cache");
  std::vector<pid_t> children;
  for (int p = 0; p < 4; ++p) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int status = 0;
      for (int i = 0; i < 10; ++i) {
        PcmCache cache(folder / "cache", p == 0 ? 1 : kPlenty);  // the first removes it again
        if (file.get(cache).size() != 50000 || cache.stats().damaged != 0) status = 1;
      }
      ::_exit(status);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
}

}  // namespace
}  // namespace onpa::data
