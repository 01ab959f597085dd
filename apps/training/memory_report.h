// What a training step on a GPU will need, planned without one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/dtype.h"
#include "nn/passt.h"

namespace onpa::apps {

struct MemoryQuestion {
  nn::PasstConfig model;
  nn::Patchout patchout;
  std::int64_t batch = 8;  // clips
  double seconds = 30;     // of each clip, at 32 kHz
  DType dtype = DType::kBF16;
  nn::Recompute recompute = nn::Recompute::kNone;
};
struct MemoryReport {
  std::int64_t tokens = 0;
  std::vector<std::pair<std::string, std::size_t>>
      bytes;  // by category, largest first, then the rest
  std::size_t total_bytes = 0;
};
/// Device memory of one PaSST training step with AdamW, at the moment when most is in use. Throws
/// Error: kConfig for a clip or patchout that leaves no patch, kDevice in a build without CUDA,
/// whose kernels say how much scratch memory they take.
MemoryReport plan_passt_memory(const MemoryQuestion& question);

}  // namespace onpa::apps
