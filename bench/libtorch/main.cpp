// LibTorch's worker of the comparison with PyTorch (bench/vs_torch.py); see protocol.h.
#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <stdexcept>

#include "bench/libtorch/rows.h"

namespace onpa::vs {
namespace {

Work prepare(const Job& job) {
  static const std::map<std::string, MakeWork> kinds = [] {
    std::map<std::string, MakeWork> out = kernel_kinds();
    out.merge(mel_kinds());
    out.merge(model_kinds());
    out.merge(file_kinds());
    return out;
  }();
  const auto found = kinds.find(job.kind);
  if (found == kinds.end()) throw std::invalid_argument("no kind of row '" + job.kind + "'");
  at::set_num_threads(job.threads);
  return found->second(job, read_inputs(job.folder / "inputs.safetensors"));
}

}  // namespace
}  // namespace onpa::vs

int main() {
  at::globalContext().setFlushDenormal(true);
  return onpa::vs::serve(onpa::vs::prepare, {});
}
