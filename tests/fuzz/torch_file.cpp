// Any bytes as a file of torch.save: tensors that lie inside of the file's storages.
#include "tensor/io/torch_file.h"

#include "tests/fuzz/target.h"

ONPA_FUZZ_TARGET(torch_file, bytes) {
  using namespace onpa;
  const auto allowed = {ExitCode::kBadCheckpoint};
  io::TorchFile file;
  if (!fuzz::survives(allowed, [&] { file = io::read_torch_file(bytes, "input"); })) return;
  fuzz::require(file.storages->total_bytes() <= bytes.size(), "more data than the file holds");
  std::vector<io::PickleRef> tensors;
  for (io::PickleRef ref = 0; ref < file.content.values.size(); ++ref) {
    const io::PickleValue& value = file.content.values[ref];
    if (value.kind == io::PickleValue::Kind::kTensor && io::is_floating(io::type_of(file, ref))) {
      tensors.push_back(ref);
    }
  }
  std::vector<Tensor> read;
  if (!fuzz::survives(allowed, [&] { read = io::read_tensors(file, tensors); })) return;
  fuzz::require(read.size() == tensors.size(), "tensors are missing");
  std::size_t total = 0;
  for (const Tensor& tensor : read) total += tensor.byte_count();
  fuzz::require(total <= 16 * bytes.size(), "more values than four times the storages hold");
}
