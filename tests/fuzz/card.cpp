// Lines of key=value as the metadata of a file of weights: refused, or settings that a front end
// and a model can be made of, and that are the same when written and read again.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "apps/inference/model_card.h"
#include "nn/dense.h"
#include "nn/passt.h"
#include "tests/fuzz/target.h"

namespace {

using namespace onpa;

io::NamedTensors tensors_of(const nn::Module& module) {
  io::NamedTensors out;
  for (const nn::NamedParameter& p : module.parameters()) {
    out.emplace_back(p.name, p.tensor.detach());
  }
  return out;
}

const io::NamedTensors& tensors(bool dense) {
  static const io::NamedTensors of_dense =
      tensors_of(nn::Dense({.inputs = 2, .hidden = {3}, .outputs = 1}));
  static const io::NamedTensors of_passt = [] {
    nn::PasstConfig config = nn::PasstConfig::preset("passt-xs");
    config.width = config.heads = config.mlp = 4;
    config.depth = 1;
    return tensors_of(nn::Passt(config));
  }();
  return dense ? of_dense : of_passt;
}

void check_front_end(const audio::MelConfig& mel) {
  const Tensor out = audio::log_mel(Tensor::zeros({1, 1000}), mel);
  fuzz::require(out.shape() == Shape({1, mel.mels, mel.frames(1000)}), "another shape of the mel");
  fuzz::require(std::ranges::all_of(out.span<float>(), [](float x) { return std::isfinite(x); }),
                "a mel that is not finite");
}

}  // namespace

ONPA_FUZZ_TARGET(card, bytes) {
  std::string_view text = fuzz::text_of(bytes);
  io::SafetensorsFile file;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t equals = std::min(line.find('='), line.size());
    file.metadata[std::string(line.substr(0, equals))] =
        line.substr(std::min(line.size(), equals + 1));
  }
  file.tensors = tensors(file.metadata["kind"] == "dense");
  apps::ModelCard card;
  if (!fuzz::survives({ExitCode::kBadCheckpoint, ExitCode::kConfig},
                      [&] { card = apps::ModelCard::read(file, "input"); })) {
    return;
  }
  if (card.kind == "passt") check_front_end(card.mel);
  file.metadata = card.metadata();
  fuzz::require(apps::ModelCard::read(file, "again").metadata() == file.metadata,
                "another card when read again");
}
