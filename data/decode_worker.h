// The inside of a decoder in a process of its own.
#pragma once

#include <cstdint>

namespace onpa::data {

/// Decodes the files that the process which started this one as DecoderPool does asks for, with at
/// most `max_bytes` of address space (0: no limit), and ends with that process, however that ends.
/// Does not return.
[[noreturn]] void run_decode_worker(std::uint64_t max_bytes);

}  // namespace onpa::data
