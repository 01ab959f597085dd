#include "tensor/io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace onpa::io {
namespace {

using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

constexpr const char* kTypesFile = ONPA_GOLDEN_DIR "/types.safetensors";
constexpr const char* kNumbersFile = ONPA_GOLDEN_DIR "/optim.safetensors";

TEST(Safetensors, ReadsWhatPythonWrote) {
  const SafetensorsFile file = read_safetensors(kTypesFile);
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"note", "written by Python"}}));
  EXPECT_EQ(file.tensors.size(), 9u);
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> single{0, -0.0f, 1, -2.5f, 6e-8f, 65504, inf, -inf};
  EXPECT_EQ(file.find("single").shape(), (Shape{2, 2, 2}));
  EXPECT_EQ(file.find("single").to_vector<float>(), single);
  EXPECT_EQ(file.find("double").dtype(), DType::kF64);
  EXPECT_EQ(file.find("double").data<double>()[3], -2.4);
  EXPECT_EQ(file.find("long").to_vector<std::int64_t>(),
            (std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::min(),
                                       std::numeric_limits<std::int64_t>::max()}));
  EXPECT_EQ(file.find("int").to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{std::numeric_limits<std::int32_t>::min(),
                                       std::numeric_limits<std::int32_t>::max()}));
  EXPECT_EQ(file.find("scalar").shape(), Shape{});
  EXPECT_EQ(file.find("scalar").item(), 3.5);
  EXPECT_EQ(file.find("empty").shape(), (Shape{0, 4}));
  EXPECT_TRUE(file.find("naïve \"quoted\"").defined());
  EXPECT_FALSE(file.find("missing").defined());
}

TEST(Safetensors, WidensHalfTypesExactly) {
  const SafetensorsFile file = read_safetensors(kTypesFile);
  const float inf = std::numeric_limits<float>::infinity();
  // 6e-8 is the smallest subnormal in half, and has eight significant bits in bfloat16.
  const std::vector<float> half = file.find("half").to_vector<float>();
  EXPECT_EQ(half, (std::vector<float>{0, 0, 1, -2.5f, 0x1p-24f, 65504, inf, -inf}));
  EXPECT_TRUE(std::signbit(half[1]));
  const std::vector<float> brain = file.find("brain").to_vector<float>();
  EXPECT_EQ(brain, (std::vector<float>{0, 0, 1, -2.5f, 0x1.02p-24f, 65536, inf, -inf}));
}

TEST(Safetensors, RoundTripIsIdenticalBytes) {
  const TempFolder folder;
  const SafetensorsFile file = read_safetensors(kNumbersFile);
  write_safetensors(folder / "a.safetensors", file.tensors, file.metadata);
  EXPECT_EQ(read_bytes(folder / "a.safetensors"), read_bytes(kNumbersFile));
}

TEST(Safetensors, WritesNanAsItIsAndAlignsTypes) {
  const TempFolder folder;
  const Tensor small = Tensor::from<std::int32_t>({3}, {1, 2, 3});
  const Tensor wide = Tensor::from<double>({2}, {1.5, NAN});
  write_safetensors(folder / "a", {{"small", small}, {"wide", wide}});
  const SafetensorsFile file = read_safetensors(folder / "a");
  EXPECT_EQ(file.tensors[0].first, "wide");
  EXPECT_EQ(std::memcmp(file.find("wide").bytes(), wide.bytes(), 16), 0);
  EXPECT_EQ(file.find("small").to_vector<std::int32_t>(), small.to_vector<std::int32_t>());
  EXPECT_EQ(std::filesystem::file_size(folder / "a"),
            safetensors_bytes({{"small", small}, {"wide", wide}}, {}));
  // Nothing but the file stays.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Safetensors, NothingToWriteIsAFile) {
  const TempFolder folder;
  write_safetensors(folder / "a", {});
  EXPECT_TRUE(read_safetensors(folder / "a").tensors.empty());
}

std::string file_with(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header +
         std::string(data_bytes, '\0');
}

// A file in memory: thousands of them on a disk would take seconds.
std::string error_of_bytes(const std::string& bytes) {
  const int descriptor = ::memfd_create("safetensors", MFD_CLOEXEC);
  EXPECT_EQ(::write(descriptor, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  std::string message = "no error";
  try {
    read_safetensors(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint);
    message = error.what();
    EXPECT_TRUE(message.starts_with(path + ": ")) << message;
    message.erase(0, path.size() + 2);
  }
  ::close(descriptor);
  return message;
}

std::string error_of(const std::string& header, std::size_t data_bytes = 0) {
  return error_of_bytes(file_with(header, data_bytes));
}

// One tensor "a" of two floats, with its description replaced.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}}";
}

TEST(Safetensors, RefusesBadLengths) {
  EXPECT_EQ(error_of_bytes(""), "not a safetensors file: only 0 bytes");
  EXPECT_EQ(error_of_bytes("123456789"), "not a safetensors file: only 9 bytes");
  EXPECT_EQ(error_of_bytes(std::string(8, '\xff') + "{}"),
            "not a safetensors file: header of 18446744073709551615 bytes, at most 100000000");
  EXPECT_EQ(error_of_bytes(std::string("\x03\0\0\0\0\0\0\0{}", 10)),
            "not a safetensors file, or cut short: header of 3 bytes in a file of 10 bytes; "
            "download or copy it again");
}

TEST(Safetensors, RefusesBadJson) {
  EXPECT_EQ(error_of("  {}"), "header does not start with '{'");
  EXPECT_EQ(error_of("[]"), "header does not start with '{'");
  EXPECT_EQ(error_of("{\"a\":"), "header is not JSON at byte 6");
  EXPECT_EQ(error_of("{} {}"), "header is not JSON at byte 4");
  EXPECT_EQ(error_of("{}   "), "no error");
  EXPECT_EQ(error_of("{\"\xff\":1}"), "header is not JSON at byte 3");
  EXPECT_EQ(error_of("{\"a\":1}"), "tensor \"a\": a number where none belongs");
  EXPECT_EQ(error_of("{\"a\":null}"), "tensor \"a\": null where a value belongs");
  EXPECT_EQ(error_of("{\"a\":true}"), "tensor \"a\": true or false where none belongs");
  EXPECT_EQ(error_of("{\"a\":\"b\"}"), "tensor \"a\": a string where none belongs");
  EXPECT_EQ(error_of("{\"a\":[]}"), "tensor \"a\": an array where none belongs");
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100000; ++i) deep += "{\"b\":";
  EXPECT_EQ(error_of(deep), "tensor \"a\": unknown key \"b\"");
  deep = "{\"a\":{\"shape\":" + std::string(100000, '[');
  EXPECT_EQ(error_of(deep), "tensor \"a\": an array where none belongs");
}

TEST(Safetensors, RefusesBadFields) {
  const std::string good = one("\"F32\"", "[2]", "[0,8]");
  EXPECT_EQ(error_of(good, 8), "no error");
  const std::string inner = good.substr(1, good.size() - 2);
  EXPECT_EQ(error_of("{" + inner + "," + inner + "}", 8), "two entries named \"a\"");
  EXPECT_EQ(error_of("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}"),
            "tensor \"a\": two keys \"dtype\"");
  EXPECT_EQ(error_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}"),
            "tensor \"a\": no \"data_offsets\"");
  EXPECT_EQ(error_of("{\"a\":{\"dtype\":\"F32\",\"color\":1}}"),
            "tensor \"a\": unknown key \"color\"");
  EXPECT_EQ(error_of(one("\"F33\"", "[2]", "[0,8]"), 8),
            "tensor \"a\": dtype \"F33\", want F64, F32, F16, BF16, I64 or I32");
  EXPECT_EQ(error_of(one("32", "[2]", "[0,8]"), 8), "tensor \"a\": a number where none belongs");
  EXPECT_EQ(error_of(one("\"F32\"", "2", "[0,8]"), 8), "tensor \"a\": a number where none belongs");
  EXPECT_EQ(error_of(one("\"F32\"", "[-2]", "[0,8]"), 8), "tensor \"a\": negative number -2");
  EXPECT_EQ(error_of(one("\"F32\"", "[2.0]", "[0,8]"), 8),
            "tensor \"a\": number 2.0 is not a 64-bit integer");
  EXPECT_EQ(error_of(one("\"F32\"", "[18446744073709551616]", "[0,8]"), 8),
            "tensor \"a\": number 18446744073709551616 is not a 64-bit integer");
  EXPECT_EQ(error_of(one("\"F32\"", "[9223372036854775808]", "[0,8]"), 8),
            "tensor \"a\": extent 9223372036854775808 is too large");
  EXPECT_EQ(error_of(one("\"F32\"", "[1,1,1,1,1,1,2]", "[0,8]"), 8),
            "tensor \"a\": rank 7, at most 6");
  EXPECT_EQ(error_of(one("\"F32\"", "[2]", "[0]"), 8), "tensor \"a\": data_offsets is not a pair");
  EXPECT_EQ(error_of(one("\"F32\"", "[2]", "[0,8,9]"), 8),
            "tensor \"a\": data_offsets is not a pair");
  EXPECT_EQ(error_of("{\"__metadata__\":{\"a\":1}}"), "metadata: a number where none belongs");
  EXPECT_EQ(error_of("{\"__metadata__\":{\"a\":\"x\",\"a\":\"y\"}}"), "metadata: two keys \"a\"");
  EXPECT_EQ(error_of("{\"__metadata__\":{\"a\":{}}}"), "metadata: an object is nested too deep");
}

TEST(Safetensors, RefusesRangesThatDoNotFit) {
  EXPECT_EQ(error_of(one("\"F32\"", "[2]", "[8,0]"), 8), "tensor \"a\": data ends at 0, before 8");
  EXPECT_EQ(error_of(one("\"F32\"", "[2]", "[0,8]"), 7),
            "tensor \"a\": data ends at 8, but the file holds 7 bytes of data: cut short, "
            "download or copy it again");
  EXPECT_EQ(error_of(one("\"F32\"", "[3]", "[0,8]"), 8),
            "tensor \"a\": shape (3) of F32 needs 12 bytes, got 8");
  EXPECT_EQ(error_of(one("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0),
            "tensor \"a\": shape (4611686018427387904, 4) overflows");
  EXPECT_EQ(error_of(one("\"F32\"", "[2]", "[0,8]"), 9), "1 bytes after the last tensor");
  const auto two = [](const char* a, const char* b) {
    return std::string("{\"a\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":") + a +
           "},\"b\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":" + b + "}}";
  };
  EXPECT_EQ(error_of(two("[0,8]", "[8,16]"), 16), "no error");
  EXPECT_EQ(error_of(two("[8,16]", "[0,8]"), 16), "no error");
  EXPECT_EQ(error_of(two("[0,8]", "[4,12]"), 12),
            "tensor \"b\": data begins at 4, inside the tensor before, which ends at 8");
  EXPECT_EQ(error_of(two("[0,8]", "[12,20]"), 20),
            "tensor \"b\": data begins at 12, leaving a hole after the one that ends at 8");
}

TEST(Safetensors, EveryCutIsRefused) {
  const std::string whole = read_bytes(kTypesFile);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    ASSERT_NE(error_of_bytes(whole.substr(0, size)), "no error") << size;
  }
}

// Any single wrong byte is refused or gives tensors, never a crash (sanitizers watch).
TEST(Safetensors, AnyWrongByteIsHandled) {
  const std::string whole = read_bytes(kTypesFile);
  for (std::size_t at = 0; at < 600; ++at) {
    for (const char value : {'\0', '"', '9', '[', '\xff'}) {
      std::string bytes = whole;
      bytes[at] = value;
      error_of_bytes(bytes);
    }
  }
}

TEST(Safetensors, MissingAndStrangePaths) {
  const TempFolder folder;
  try {
    read_safetensors(folder / "none");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputMissing);
  }
  try {
    read_safetensors(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint);
    EXPECT_NE(std::string(error.what()).find("not a regular file"), std::string::npos);
  }
  try {
    write_safetensors(folder / "none/a", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
  }
}

TEST(Safetensors, AFailedWriteLeavesTheOldFile) {
  const TempFolder folder;
  write_bytes(folder / "a", "old");
  const Tensor x = Tensor::zeros({2});
  EXPECT_THROW(write_safetensors(folder / "a", {{"x", x}, {"x", x}}), Error);
  EXPECT_THROW(write_safetensors(folder / "a", {{"__metadata__", x}}), Error);
  EXPECT_THROW(write_safetensors(folder / "a", {{"x", Tensor()}}), Error);
  EXPECT_THROW(write_safetensors(folder / "a", {{"\xff", x}}), Error);
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace onpa::io
