#include <filesystem>
#include <utility>

#include "apps/commands/commands.h"
#include "apps/inference/predictor.h"
#include "apps/support/log.h"
#include "apps/support/outputs.h"
#include "kernels/error.h"
#include "nn/adapt.h"
#include "nn/load.h"
#include "tensor/io/torch_file_write.h"

namespace onpa::apps {
namespace {

namespace fs = std::filesystem;

bool is_torch_name(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".pt" || extension == ".pth") return true;
  if (extension == ".safetensors") return false;
  fail(ExitCode::kUsage, path.string(), ": want a name that ends in .safetensors, .pt or .pth");
}

// What goes along with the weights. An image transformer is none of our models: it is written as
// it is, to start a training from.
std::map<std::string, std::string> metadata_of(const nn::WeightsFile& weights, int hop) {
  const std::string name = weights.source.string();
  if (!weights.metadata.contains("kind") && nn::is_deit(weights.tensors)) {
    spdlog::info("{}: an image transformer, written without a front end; use it with --init-from",
                 name);
    return weights.metadata;
  }
  const ModelCard card = ModelCard::read({weights.tensors, weights.metadata, {}}, name, hop);
  card.check_tensors(weights.tensors, name);
  auto out = weights.metadata;
  for (auto& [key, value] : card.metadata()) out[key] = value;
  return out;
}

}  // namespace

int run_convert(const ConvertArgs& args) {
  const bool torch = is_torch_name(args.out);
  keep_inputs({{"the file to write", args.out}}, {args.model});
  const nn::WeightsFile weights = open_weights(args.model, args.weights);
  const auto metadata = metadata_of(weights, args.weights.hop);
  const std::string bad = nn::first_not_finite(weights.tensors);
  if (!bad.empty()) {
    spdlog::warn("{}: tensor {} holds NaN or infinity: written as it is, but no model can use it",
                 weights.source.string(), bad);
  }
  if (torch) {
    io::write_torch_file(args.out, weights.tensors, metadata);
  } else {
    io::write_safetensors(args.out, weights.tensors, metadata);
  }
  std::int64_t values = 0;
  for (const auto& [key, tensor] : weights.tensors) values += tensor.numel();
  spdlog::info("{}: {} tensors, {} values, f32", args.out, weights.tensors.size(), values);
  return 0;
}

}  // namespace onpa::apps
