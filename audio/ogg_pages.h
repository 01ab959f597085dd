// Whether an Ogg file is whole. Private to audio/. Source: RFC 3533.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace onpa::audio {

/// What is wrong with the pages (checksums, holes, a missing end), empty if nothing. Throws Error
/// (kBadData) naming `name` if a second logical stream follows the first (a chained file).
std::vector<std::string> check_ogg(std::span<const std::byte> bytes, const std::string& name);

}  // namespace onpa::audio
