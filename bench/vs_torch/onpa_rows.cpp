// onpa's worker of the comparison with PyTorch (bench/vs_torch/); see protocol.h. It also writes
// the inputs that all workers read and measures the limits of the machine.
#include "bench/vs_torch/onpa_rows.h"

#include <stdexcept>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/roofline.h"

namespace onpa::vs {
namespace {

std::map<std::string, Kind> all_kinds() {
  std::map<std::string, Kind> out = kernel_kinds();
  out.merge(model_kinds());
  out.merge(dense_kinds());
  out.merge(audio_kinds());
  out.merge(file_kinds());
  return out;
}

const Kind& kind_of(const Job& job) {
  static const std::map<std::string, Kind> kinds = all_kinds();
  const auto found = kinds.find(job.kind);
  if (found == kinds.end()) throw std::invalid_argument("no kind of row '" + job.kind + "'");
  return found->second;
}

Work prepare(const Job& job) {
  kernels::set_thread_count(job.threads);
  Work work = kind_of(job).work(job, io::read_safetensors(job.folder / "inputs.safetensors"));
  // Blocks of the inputs' file and of earlier rows are no part of this row's memory.
  release_cached_memory();
  return work;
}

Json write_inputs(const Json& request) {
  const Job job = job_of(request);
  io::write_safetensors(job.folder / "inputs.safetensors", kind_of(job).inputs(job));
  return {{"ok", true}};
}

// What `threads` threads can do right now: multiply-adds, and with "copy" also the copy bandwidth.
Json measure_limits(const Json& request) {
  const int threads = request.at("threads");
  Json out = {{"gflops", kernels::measure_gflops(threads)}};
  if (request.at("copy")) out["copy_gbytes"] = kernels::measure_copy_gigabytes_per_second(threads);
  return out;
}

}  // namespace
}  // namespace onpa::vs

int main() {
  return onpa::vs::serve(onpa::vs::prepare, {{"inputs", onpa::vs::write_inputs},
                                             {"limits", onpa::vs::measure_limits}});
}
