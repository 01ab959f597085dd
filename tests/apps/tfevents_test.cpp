#include "apps/support/tfevents.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/apps/run_command.h"

namespace onpa::apps {
namespace {

template <class T>
T read_at(const std::string& bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// The check value of CRC-32C and two vectors of RFC 3720, B.4.
TEST(TfEvents, Crc32c) {
  EXPECT_EQ(crc32c("123456789", 9), 0xE3069283u);
  const std::string zeros(32, '\0'), ones(32, '\xff');
  EXPECT_EQ(crc32c(zeros.data(), 32), 0x8A9136AAu);
  EXPECT_EQ(crc32c(ones.data(), 32), 0x62A8AB43u);
  EXPECT_EQ(crc32c("", 0), 0u);
}

TEST(TfEvents, RecordFraming) {
  const std::string record = event_record("hello");
  ASSERT_EQ(record.size(), 8u + 4 + 5 + 4);
  EXPECT_EQ(read_at<std::uint64_t>(record, 0), 5u);
  EXPECT_EQ(read_at<std::uint32_t>(record, 8), masked_crc32c(record.data(), 8));
  EXPECT_EQ(record.substr(12, 5), "hello");
  EXPECT_EQ(read_at<std::uint32_t>(record, 17), masked_crc32c("hello", 5));
  const std::uint32_t crc = crc32c("hello", 5);
  EXPECT_EQ(masked_crc32c("hello", 5), ((crc >> 15) | (crc << 17)) + 0xA282EAD8u);
}

// Event{wall_time: 1.5, step: 300, summary{value{tag: "a", simple_value: 2}}}, byte by byte.
TEST(TfEvents, ScalarEventBytes) {
  std::string want = "\x09";
  want += std::string("\x00\x00\x00\x00\x00\x00\xf8\x3f", 8);  // 1.5
  want += std::string("\x10\xac\x02", 3);                      // 300
  want += std::string("\x2a\x0a\x0a\x08\x0a\x01", 6) + "a";
  want += std::string("\x15\x00\x00\x00\x40", 5);  // 2.0f
  EXPECT_EQ(scalar_event(1.5, 300, {{"a", 2.0}}), want);
}

TEST(TfEvents, FileStartsWithItsVersion) {
  const testing::TempFolder folder;
  {
    EventWriter writer(folder.path(), 0);
    writer.append(1, {{"loss", 0.5}});
    EXPECT_EQ(writer.file().problem(), "");
  }
  std::string bytes;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_EQ(entry.path().filename().string().rfind("events.out.tfevents.", 0), 0u);
    bytes = testing::read_bytes(entry.path());
  }
  ASSERT_GT(bytes.size(), 16u);
  const auto length = read_at<std::uint64_t>(bytes, 0);
  EXPECT_NE(bytes.substr(12, length).find("brain.Event:2"), std::string::npos);
  EXPECT_NE(bytes.find("loss"), std::string::npos);
}

}  // namespace
}  // namespace onpa::apps
