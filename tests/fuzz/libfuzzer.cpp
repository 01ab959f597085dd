// The entry of libFuzzer's programs: ONPA_FUZZ_NAME is the target's name.
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const onpa::fuzz::Target target = onpa::fuzz::find_target(ONPA_FUZZ_NAME);
  target({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
