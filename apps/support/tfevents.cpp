#include "apps/support/tfevents.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

namespace onpa::apps {
namespace {

static_assert(std::endian::native == std::endian::little, "records are written as they lie");

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

template <class T>
void put_raw(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

// Protobuf wire types.
constexpr std::uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

void put_tag(std::string& out, std::uint32_t field, std::uint32_t wire) {
  put_varint(out, field << 3 | wire);
}

void put_bytes(std::string& out, std::uint32_t field, const std::string& value) {
  put_tag(out, field, kBytes);
  put_varint(out, value.size());
  out += value;
}

// Event fields: wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7.
std::string event_header(double wall_seconds, std::int64_t step) {
  std::string out;
  put_tag(out, 1, kFixed64);
  put_raw(out, wall_seconds);
  put_tag(out, 2, kVarint);
  put_varint(out, static_cast<std::uint64_t>(step));
  return out;
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::filesystem::path event_file(const std::filesystem::path& folder, double now) {
  char host[256] = "host";
  gethostname(host, sizeof(host) - 1);
  return folder / fmt::format("events.out.tfevents.{:.0f}.{}.{}", now, host, getpid());
}

}  // namespace

std::uint32_t crc32c(const void* bytes, std::size_t count) {
  const auto* p = static_cast<const unsigned char*>(bytes);
  std::uint32_t crc = 0xFFFFFFFFu;
  for (std::size_t i = 0; i < count; ++i) crc = (crc >> 8) ^ kCrcTable[(crc ^ p[i]) & 0xFF];
  return ~crc;
}

std::uint32_t masked_crc32c(const void* bytes, std::size_t count) {
  const std::uint32_t crc = crc32c(bytes, count);
  return std::rotr(crc, 15) + 0xA282EAD8u;
}

std::string event_record(const std::string& payload) {
  const std::uint64_t length = payload.size();
  std::string out;
  put_raw(out, length);
  put_raw(out, masked_crc32c(&length, sizeof(length)));
  out += payload;
  put_raw(out, masked_crc32c(payload.data(), payload.size()));
  return out;
}

std::string scalar_event(double wall_seconds, std::int64_t step, const Metrics& metrics) {
  std::string summary;
  for (const auto& [name, value] : metrics) {
    std::string entry;  // Summary.Value: tag = 1, simple_value = 2
    put_bytes(entry, 1, name);
    put_tag(entry, 2, kFixed32);
    put_raw(entry, static_cast<float>(value));
    put_bytes(summary, 1, entry);
  }
  std::string out = event_header(wall_seconds, step);
  put_bytes(out, 5, summary);
  return out;
}

EventWriter::EventWriter(const std::filesystem::path& folder, std::int64_t resumed_step)
    : file_(event_file(folder, now_seconds()), io::FileKind::kEvents) {
  const double now = now_seconds();
  std::string version = event_header(now, 0);
  put_bytes(version, 3, "brain.Event:2");
  file_.append(event_record(version));
  if (resumed_step > 0) {
    std::string session = event_header(now, resumed_step + 1);
    std::string start;  // SessionLog: status = 1, START = 1
    put_tag(start, 1, kVarint);
    put_varint(start, 1);
    put_bytes(session, 7, start);
    file_.append(event_record(session));
  }
}

void EventWriter::append(std::int64_t step, const Metrics& metrics) {
  file_.append(event_record(scalar_event(now_seconds(), step, metrics)));
}

}  // namespace onpa::apps
