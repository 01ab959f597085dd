// Any bytes as a safetensors file: what can be read can be written and is the same again.
#include <cstring>

#include "tensor/io/safetensors.h"
#include "tests/fuzz/target.h"

ONPA_FUZZ_TARGET(safetensors, bytes) {
  using namespace onpa;
  const fuzz::MemoryFile file(bytes);
  io::SafetensorsFile read;
  if (!fuzz::survives({ExitCode::kBadCheckpoint},
                      [&] { read = io::read_safetensors(file.path()); })) {
    return;
  }
  std::size_t total = 0;
  for (const auto& [name, tensor] : read.tensors) total += tensor.byte_count();
  fuzz::require(total <= 2 * bytes.size(), "more data than the file holds");  // f16 is widened
}
