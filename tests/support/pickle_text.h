// Pickles put together opcode by opcode, also ones that no pickler would write.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace onpa::testing::pickle {

inline std::string le(std::uint64_t value, int width) {
  std::string out;
  for (int i = 0; i < width; ++i) out += static_cast<char>((value >> (8 * i)) & 255u);
  return out;
}
inline std::string proto(int version = 2) {
  return "\x80" + le(static_cast<unsigned>(version), 1);
}
inline std::string text(const std::string& value) {
  return "X" + le(value.size(), 4) + value;
}
inline std::string number(std::int64_t value) {
  return "\x8a\x08" + le(static_cast<std::uint64_t>(value), 8);
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(std::initializer_list<std::int64_t> values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += number(value);
  return out + "t";
}
inline std::string storage(const std::string& type, const std::string& key, std::int64_t elements) {
  return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") +
         number(elements) + "tQ";
}
inline std::string tensor(const std::string& storage, std::int64_t offset,
                          std::initializer_list<std::int64_t> size,
                          std::initializer_list<std::int64_t> stride,
                          const std::string& metadata = "") {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + storage + number(offset) +
         tuple(size) + tuple(stride) + "\x89" + global("collections", "OrderedDict") + ")R" +
         metadata + "tR";
}
/// A state dict with one tensor, "w".
inline std::string state(const std::string& tensor) {
  return proto() + "}" + text("w") + tensor + "s.";
}

inline std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace onpa::testing::pickle
