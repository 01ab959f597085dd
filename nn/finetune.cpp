#include "nn/finetune.h"

#include <charconv>
#include <cmath>

#include "kernels/error.h"

namespace onpa::nn {
namespace {

// -1: not in a block.
std::int64_t block_of(const std::string& name) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!name.starts_with(kBlocks)) return -1;
  std::int64_t block = -1;
  std::from_chars(name.data() + kBlocks.size(), name.data() + name.size(), block);
  return block;
}

bool is_head(const std::string& name) {
  return name.starts_with("head");
}

bool is_embedding(const std::string& name) {
  return block_of(name) < 0 && !is_head(name) && !name.starts_with("norm.");
}

bool is_named(const std::string& parameter, const std::string& what) {
  if (what == "embed") return is_embedding(parameter);
  if (what == "body") return !is_head(parameter);
  return parameter == what || parameter.starts_with(what + ".");
}

std::vector<std::string> parts_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::size_t first = text.find_first_not_of(' ', begin);
    if (first < end) {
      out.push_back(text.substr(first, text.find_last_not_of(' ', end - 1) + 1 - first));
    }
    begin = end + 1;
  }
  return out;
}

}  // namespace

double layer_rate(const std::string& name, std::int64_t depth, double decay, double head) {
  if (is_head(name)) return head;
  if (is_embedding(name)) return std::pow(decay, static_cast<double>(depth + 1));
  const std::int64_t block = block_of(name);
  return block < 0 ? 1 : std::pow(decay, static_cast<double>(depth - block));
}

std::int64_t freeze(Passt& model, const std::string& what) {
  const std::vector<std::pair<std::string, Tensor*>> parameters = model.parameter_slots();
  std::int64_t frozen = 0, learning = 0;
  for (const std::string& part : parts_of(what)) {
    if (part == "none") continue;
    bool found = false;
    for (const auto& [name, tensor] : parameters) {
      if (!is_named(name, part)) continue;
      found = true;
      tensor->set_requires_grad(false);
    }
    if (!found) {
      fail(ExitCode::kConfig, "train.freeze: no parameter begins with '", part,
           "', want none, embed, body, or beginnings such as blocks.0 or patch_embed");
    }
  }
  for (const auto& [name, tensor] : parameters) {
    (tensor->requires_grad() ? learning : frozen) += tensor->numel();
  }
  if (learning == 0) {
    fail(ExitCode::kConfig, "train.freeze is '", what, "': nothing is left to learn");
  }
  return frozen;
}

}  // namespace onpa::nn
