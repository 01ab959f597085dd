// Whether an Ogg file is whole. Private to audio/. Source: RFC 3533.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace onpa::audio {

/// Looks at the pages of a file as its bytes come by.
class OggCheck {
 public:
  /// `name` is for errors.
  explicit OggCheck(std::string name) : name_(std::move(name)) {}

  /// The next bytes. Throws Error (kBadData) if a second logical stream follows the first (a
  /// chained file).
  void feed(std::span<const std::byte> bytes);
  /// To be called once, after the last byte.
  void finish();
  /// What is wrong with the pages so far (checksums, holes, a missing end), empty if nothing.
  const std::vector<std::string>& damage() const { return damage_; }

 private:
  bool take_page();

  std::string name_;
  std::vector<std::byte> held_;          // from the start of a page on
  std::uint64_t at_ = 0;                 // offset of held_[0]
  std::map<std::uint32_t, bool> ended_;  // by serial number
  bool has_body_ = false, lost_ = false;
  std::vector<std::string> damage_;
};

/// What is wrong with the pages of a whole file, empty if nothing. Throws as OggCheck::feed().
std::vector<std::string> check_ogg(std::span<const std::byte> bytes, const std::string& name);

}  // namespace onpa::audio
