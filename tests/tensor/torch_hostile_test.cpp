// Files that no torch.save wrote: each is refused with a typed error, in little memory, and nothing
// happens outside of the process's own memory.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "tensor/io/torch_file.h"
#include "tests/support/pickle_text.h"
#include "tests/support/temp_folder.h"

namespace onpa::io {
namespace {

using namespace testing::pickle;  // NOLINT: opcodes read best without a prefix
using testing::read_bytes;

struct Entry {
  std::string name, data;
  bool deflate = false;
};

std::string archive(const std::vector<Entry>& entries) {
  const testing::TempFolder folder;
  const std::string path = (folder / "a.zip").string();
  int error = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
  EXPECT_NE(zip, nullptr) << error;
  for (const Entry& entry : entries) {
    zip_source_t* source = zip_source_buffer(zip, entry.data.data(), entry.data.size(), 0);
    const zip_int64_t index = zip_file_add(zip, entry.name.c_str(), source, ZIP_FL_ENC_UTF_8);
    EXPECT_GE(index, 0) << zip_strerror(zip);
    zip_set_file_compression(zip, static_cast<zip_uint64_t>(index),
                             entry.deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  EXPECT_EQ(zip_close(zip), 0) << zip_strerror(zip);
  return read_bytes(path);
}

std::string of_pickle(const std::string& pickle, std::size_t data_bytes = 16) {
  return archive({{"a/data.pkl", pickle}, {"a/data/0", std::string(data_bytes, '\1')}});
}

// Everything that a reader of weights does with a file: opens it and reads every tensor.
void read_all(const std::string& file) {
  const TorchFile torch = read_torch_file(bytes(file), "input");
  std::vector<PickleRef> tensors;
  for (PickleRef i = 0; i < torch.content.values.size(); ++i) {
    const bool tensor = torch.content[i].kind == PickleValue::Kind::kTensor;
    if (tensor && is_floating(type_of(torch, i))) tensors.push_back(i);
  }
  read_tensors(torch, tensors);
}

std::string refusal(const std::string& file) {
  try {
    read_all(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint) << error.what();
    EXPECT_EQ(std::string(error.what()).find("input: "), 0u) << error.what();
    return error.what();
  }
  return "accepted";
}

struct Case {
  std::string file;
  std::vector<std::string> parts;  // of the message
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  EXPECT_EQ(from.size(), to.size());
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, at + 1)) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// A table of contents that claims 2^40 entries, which takes the 64-bit form.
std::string claims_many_entries() {
  const std::string end64 = "PK\6\6" + le(44, 8) + le(45, 2) + le(45, 2) + le(0, 4) + le(0, 4) +
                            le(1ull << 40, 8) + le(1ull << 40, 8) + le(46ull << 40, 8) + le(0, 8);
  const std::string locator = "PK\6\7" + le(0, 4) + le(4, 8) + le(1, 4);
  const std::string end = "PK\5\6" + le(0, 4) + le(0xffff, 2) + le(0xffff, 2) + le(0xffffffff, 4) +
                          le(0xffffffff, 4) + le(0, 2);
  return "PK\3\4" + end64 + locator + end;
}

std::vector<Case> hostile_files() {
  const std::string four = storage("FloatStorage", "0", 4);
  const std::string good = state(tensor(four, 0, {4}, {1}));
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  const std::string zeros(10 << 20, '\0');
  std::vector<Case> out = {
      // tensors
      {of_pickle(state(tensor(four, 1, {4}, {1}))), {"reaches element 4", "which has 4"}},
      {of_pickle(state(tensor(four, 0, {2, 2}, {3, 2}))), {"reaches element 5"}},
      {of_pickle(state(tensor(four, kHuge, {1}, {1}))), {"which has 4"}},
      {of_pickle(state(tensor(four, 5, {0}, {1}))), {"which has 4"}},
      {of_pickle(state(tensor(four, 0, {kHuge, kHuge, kHuge}, {0, 0, 0}))), {"too large"}},
      {of_pickle(state(tensor(four, 0, {kHuge, kHuge, 0}, {1, 1, 1}))), {"too large"}},
      {of_pickle(state(tensor(four, 0, {2, 2}, {kHuge, kHuge}))), {"too large"}},
      {of_pickle(state(tensor(four, 0, {1000, 1000, 1000}, {0, 0, 0}))), {"repeat each other"}},
      {of_pickle(state(tensor(four, 0, {1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1}))),
       {"7 axes, at most 6"}},
      // storages
      {of_pickle(state(tensor(storage("FloatStorage", "0", kHuge), 0, {4}, {1}))),
       {"storage 0 has 16 bytes"}},
      {of_pickle(state(tensor(storage("FloatStorage", "0", 3), 0, {3}, {1}))), {"16 bytes"}},
      {of_pickle(state(tensor(storage("FloatStorage", "1", 4), 0, {4}, {1}))),
       {"storage 1 is not in the file"}},
      {of_pickle(state(tensor(storage("FloatStorage", "../data.pkl", 4), 0, {4}, {1}))),
       {"storage ../data.pkl is not in the file"}},
      {of_pickle(proto() + "](" + tensor(four, 0, {4}, {1}) +
                 tensor(storage("IntStorage", "0", 4), 0, {4}, {1}) + "e."),
       {"storage 0 is f32 and i32"}},
      // archives
      {archive({{"a/data.pkl", good}, {"a/data/0", zeros, true}}), {"want 4 elements"}},
      {archive({{"a/data.pkl", good}, {"a/data/0", std::string(16, '\0'), true}}), {"compressed"}},
      {archive({{"a/data.pkl", good + zeros, true}, {"a/data/0", ""}}), {"compressed"}},
      {archive({{"a/data.pkl", good}, {"../../etc/x", "y"}}), {"../../etc/x", "path out of it"}},
      {archive({{"/etc/x", "y"}, {"a/data.pkl", good}}), {"path out of it"}},
      {archive({{"a\\..\\x", "y"}, {"a/data.pkl", good}}), {"path out of it"}},
      {archive({{"a/data.pkl", good}, {"b/data.pkl", good}}), {"two pickles"}},
      {archive({{"a/x", "y"}}), {"not one of torch.save", "a/x"}},
      {archive({{"a/data.pkl", good}, {"a/data/0", std::string(16, ' ')}, {"a/byteorder", "mid"}}),
       {"byteorder is 'mid'"}},
      {replaced(archive({{"a/data.pkl", good}, {"a/data/0", "1234"}, {"a/data/1", "5678"}}),
                "a/data/1", "a/data/0"),
       {"two entries have one name"}},
      {replaced(of_pickle(good), std::string(16, '\1'), std::string(16, '\2')),
       {"a/data/0 is damaged"}},
      {claims_many_entries(), {"damaged zip archive"}},
      {"PK\3\4", {"cut short"}},
  };
  return out;
}

TEST(TorchHostile, EveryFileIsRefusedAndSaysWhy) {
  EXPECT_EQ(refusal(of_pickle(state(tensor(storage("FloatStorage", "0", 4), 0, {4}, {1})))),
            "accepted");
  for (const Case& hostile : hostile_files()) {
    const std::string message = refusal(hostile.file);
    for (const std::string& part : hostile.parts) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
    }
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

#if !defined(__SANITIZE_ADDRESS__)  // whose shadow needs more addresses than there are
TEST(TorchHostile, LittleMemoryIsEnoughForThem) {
  const std::vector<Case> files = hostile_files();
  const pid_t child = ::fork();
  if (child == 0) {
    std::FILE* statm = std::fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    if (statm == nullptr || std::fscanf(statm, "%lu", &pages) != 1) ::_exit(3);
    const rlim_t now = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
    const rlimit limit{now + (64u << 20), now + (64u << 20)};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(3);
    for (const Case& hostile : files) {
      try {
        read_all(hostile.file);
        ::_exit(1);
      } catch (const Error& error) {
        if (error.code() != ExitCode::kBadCheckpoint) ::_exit(2);
      }
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}
#endif

std::vector<std::string> small_files() {
  std::vector<std::string> out;
  for (const char* name : {"kinds_2_15.pt", "kinds_2_15_old.pt", "deit.pt"}) {
    out.push_back(
        read_bytes(std::filesystem::path(ONPA_GOLDEN_DIR) / ("torch_" + std::string(name))));
  }
  return out;
}

TEST(TorchHostile, EveryCutIsRefused) {
  for (const std::string& file : small_files()) {
    for (std::size_t bytes = 0; bytes < file.size(); ++bytes) {
      EXPECT_NE(refusal(file.substr(0, bytes)), "accepted") << bytes << " of " << file.size();
    }
  }
}

TEST(TorchHostile, AnyWrongByteIsHandled) {
  for (const std::string& file : small_files()) {
    for (std::size_t i = 0; i < file.size(); ++i) {
      for (const char change : {'\x01', '\xff'}) {
        std::string wrong = file;
        wrong[i] = static_cast<char>(wrong[i] ^ change);
        refusal(wrong);
      }
    }
  }
}

}  // namespace
}  // namespace onpa::io
