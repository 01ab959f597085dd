// The rows of the comparison with PyTorch, on onpa's side.
#pragma once

#include "bench/vs_torch/protocol.h"
#include "tensor/io/safetensors.h"

namespace onpa::vs {

/// One kind of row: the inputs that all peers read, and the work.
struct Kind {
  std::function<io::NamedTensors(const Job&)> inputs;  // may also write files into the folder
  std::function<Work(const Job&, const io::SafetensorsFile& inputs)> work;
};

std::map<std::string, Kind> kernel_kinds();
std::map<std::string, Kind> model_kinds();
std::map<std::string, Kind> dense_kinds();
std::map<std::string, Kind> audio_kinds();
std::map<std::string, Kind> file_kinds();

/// Parameters of passt-s with a time table of `table_t` columns and one output, from an integer
/// hash (tests/support/hash_fill.h).
io::NamedTensors passt_parameters(std::int64_t table_t);

inline void add(Outputs& outputs, const std::string& name, const Tensor& x) {
  outputs.add(name, x.data<float>(), static_cast<std::size_t>(x.numel()));
}

}  // namespace onpa::vs
