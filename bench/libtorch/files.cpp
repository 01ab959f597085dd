#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>
#include <torch/serialize.h>
#include <unistd.h>

#include <stdexcept>
#include <vector>

#include "bench/libtorch/rows.h"

namespace onpa::vs {
namespace {

constexpr const char* kChecked = "blocks.5.attn.qkv.weight";

void sync_file(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int status = file < 0 ? -1 : ::fsync(file);
  if (file >= 0) ::close(file);
  if (status != 0) throw std::runtime_error("cannot sync " + path.string());
}

void save(const Inputs& tensors, const std::filesystem::path& path) {
  torch::serialize::OutputArchive archive;
  for (const auto& [name, tensor] : tensors) archive.write(name, tensor);
  archive.save_to(path.string());
}

void load_into(const Inputs& model, const std::filesystem::path& path) {
  const c10::NoGradGuard no_grad;
  torch::serialize::InputArchive archive;
  archive.load_from(path.string());
  for (const auto& [name, tensor] : model) {
    at::Tensor read;
    archive.read(name, read);
    tensor.copy_(read);
  }
}

// "synced": on the disk when the call returns, as onpa's; "unsynced": as PyTorch leaves it.
Work checkpoint_save(const Job& job, Inputs in) {
  const auto path = job.folder / "libtorch.pt";
  const bool synced = job.variant == "synced";
  const auto run = [=] {
    save(in, path);
    if (synced) sync_file(path);
  };
  return {.check =
              [=] {
                run();
                Inputs read = {{kChecked, at::empty_like(in.at(kChecked))}};
                load_into(read, path);
                Outputs out;
                add(out, kChecked, read[kChecked]);
                return out;
              },
          .run = run};
}

Work checkpoint_load(const Job& job, Inputs in) {
  const auto path = job.folder / "libtorch.pt";
  save(in, path);
  Inputs model;
  for (const auto& [name, tensor] : in) model[name] = at::empty_like(tensor);
  const auto run = [=] { load_into(model, path); };
  return {.check =
              [=] {
                run();
                Outputs out;
                add(out, kChecked, model.at(kChecked));
                return out;
              },
          .run = run};
}

}  // namespace

std::map<std::string, MakeWork> file_kinds() {
  return {{"checkpoint_save", checkpoint_save}, {"checkpoint_load", checkpoint_load}};
}

}  // namespace onpa::vs
