#include <ATen/ATen.h>

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "bench/libtorch/rows.h"

namespace onpa::vs {

Inputs read_inputs(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::uint64_t length = 0;
  if (!file.read(reinterpret_cast<char*>(&length), sizeof length)) {
    throw std::runtime_error("cannot read " + path.string());
  }
  std::string header(length, '\0');
  file.read(header.data(), static_cast<std::streamsize>(length));
  const std::streamoff data = static_cast<std::streamoff>(sizeof length + length);
  Inputs out;
  const Json entries = Json::parse(header);
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") continue;
    if (entry.at("dtype") != "F32") throw std::runtime_error(name + ": want F32");
    const auto shape = entry.at("shape").get<std::vector<std::int64_t>>();
    at::Tensor tensor = at::empty(shape, at::kFloat);
    file.seekg(data + entry.at("data_offsets")[0].get<std::int64_t>());
    file.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
    out[name] = tensor;
  }
  if (!file) throw std::runtime_error(path.string() + " is cut off");
  return out;
}

void add(Outputs& outputs, const std::string& name, const at::Tensor& x) {
  const at::Tensor values = x.detach().contiguous();
  outputs.add(name, values.const_data_ptr<float>(), static_cast<std::size_t>(values.numel()));
}

at::Tensor leaf(const at::Tensor& values) {
  return values.detach().requires_grad_();
}

}  // namespace onpa::vs
