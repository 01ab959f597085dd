#include "nn/passt.h"

#include <algorithm>
#include <cmath>

#include "kernels/patch.h"
#include "nn/init.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "tensor/dispatch.h"
#include "tensor/ops/index.h"
#include "tensor/ops/work.h"

namespace onpa::nn {
namespace {

constexpr std::int64_t kPrefixTokens = 2;  // class and distillation
constexpr float kNormEps = 1e-6f;
constexpr float kHeadNormEps = 1e-5f;  // the head keeps its framework's default

struct Preset {
  const char* name;
  std::int64_t stride, table_t, depth, hop_samples;
  double seconds;
  std::int64_t drop_time, drop_freq;  // of a training step
};
constexpr Preset kPresets[] = {
    {"passt-s", 10, 99, 12, 320, 10, 40, 4},
    {"passt-s-s12", 12, 83, 12, 320, 10, 33, 3},
    {"passt-s-s14", 14, 71, 12, 320, 10, 30, 3},
    {"passt-s-s16", 16, 62, 12, 320, 10, 20, 1},
    {"passt-s-20sec", 10, 200, 12, 320, 20, 80, 4},
    {"passt-s-30sec", 10, 300, 12, 320, 30, 120, 4},
    {"passt-s-hop160", 10, 200, 12, 160, 10, 80, 4},
    {"passt-s-hop100", 10, 320, 12, 100, 10, 128, 4},
    {"passt-l", 10, 99, 7, 320, 10, 40, 4},
    {"passt-xs", 5, 19, 2, 320, 1, 4, 1},
};

const Preset& find_preset(const std::string& name) {
  std::string names;
  for (const Preset& preset : kPresets) {
    if (name == preset.name) return preset;
    names += std::string(names.empty() ? "" : ", ") + preset.name;
  }
  fail(ExitCode::kConfig, "passt: no preset '", name, "', want one of ", names);
}

// The patch convolution's parameters, named as the public file names them.
class PatchProjection : public Module {
 public:
  PatchProjection(std::int64_t width, std::int64_t patch_f, std::int64_t patch_t)
      : weight(add_parameter("weight", {width, 1, patch_f, patch_t})),
        bias(add_parameter("bias", {width})) {}
  Tensor& weight;
  Tensor& bias;
};

bool requires_grad(const Module& module) {
  const std::vector<NamedParameter> all = module.parameters();
  return std::ranges::any_of(all, [](const auto& p) { return p.tensor.requires_grad(); });
}

void check_positive(const char* field, std::int64_t value) {
  if (value < 1) fail(ExitCode::kConfig, "passt: ", field, " is ", value, ", want at least 1");
}

kernels::DrawPatchout patchout_draw(const Patchout& patchout, std::int64_t grid_f,
                                    std::int64_t grid_t, std::int64_t table_t) {
  const auto check = [](const char* field, std::int64_t dropped, std::int64_t total) {
    if (dropped < 0 || dropped >= total) {
      fail(ExitCode::kConfig, "patchout: ", field, " drops ", dropped, " of ", total,
           ", want 0 to ", total - 1);
    }
  };
  check("time", patchout.time, grid_t);
  check("freq", patchout.freq, grid_f);
  kernels::DrawPatchout draw = {.grid_f = grid_f,
                                .grid_t = grid_t,
                                .table_t = table_t,
                                .drop_time = patchout.time,
                                .drop_freq = patchout.freq};
  check("unstructured", patchout.unstructured, draw.kept());
  draw.drop_unstructured = patchout.unstructured;
  return draw;
}

}  // namespace

PasstConfig PasstConfig::preset(const std::string& name) {
  const Preset& preset = find_preset(name);
  PasstConfig config;
  if (name == "passt-xs") {
    config.mels = 32;
    config.patch_f = config.patch_t = 8;
    config.width = 64;
    config.heads = 4;
    config.mlp = 256;
    config.outputs = 1;
    config.head_dist = false;
  }
  config.stride_f = config.stride_t = preset.stride;
  config.table_t = preset.table_t;
  config.depth = preset.depth;
  return config;
}

std::vector<std::string> PasstConfig::preset_names() {
  std::vector<std::string> out;
  for (const Preset& preset : kPresets) out.emplace_back(preset.name);
  return out;
}

PasstInput preset_input(const std::string& name) {
  const Preset& preset = find_preset(name);
  return {.hop_samples = preset.hop_samples,
          .seconds = preset.seconds,
          .patchout = {.time = preset.drop_time, .freq = preset.drop_freq}};
}

void PasstConfig::validate() const {
  check_positive("mels", mels);
  check_positive("patch_f", patch_f);
  check_positive("patch_t", patch_t);
  check_positive("stride_f", stride_f);
  check_positive("stride_t", stride_t);
  check_positive("table_t", table_t);
  check_positive("width", width);
  check_positive("heads", heads);
  check_positive("depth", depth);
  check_positive("mlp", mlp);
  check_positive("outputs", outputs);
  if (patch_f > mels) {
    fail(ExitCode::kConfig, "passt: patch_f is ", patch_f, ", want at most mels (", mels, ")");
  }
  if (width % heads != 0) {
    fail(ExitCode::kConfig, "passt: heads is ", heads, ", want a divisor of width (", width, ")");
  }
}

std::vector<std::int32_t> draw_patchout(const Patchout& patchout, std::int64_t grid_f,
                                        std::int64_t grid_t, std::uint64_t seed,
                                        std::uint64_t step) {
  kernels::DrawPatchout draw = patchout_draw(patchout, grid_f, grid_t, grid_t);
  draw.seed = seed;
  draw.step = step;
  std::vector<std::int32_t> keep(static_cast<std::size_t>(draw.kept()));
  draw.keep = keep.data();
  kernels::draw_patchout(kernels::Cpu{}, draw);
  return keep;
}

// The children, in the order of the public file.
struct Passt::Parts {
  explicit Parts(const PasstConfig& c)
      : projection(c.width, c.patch_f, c.patch_t),
        norm(c.width, kNormEps),
        head_norm(c.width, kHeadNormEps),
        head(c.width, c.outputs) {
    for (std::int64_t i = 0; i < c.depth; ++i) {
      blocks.push_back(std::make_unique<Block>(c.width, c.heads, c.mlp));
    }
    if (c.head_dist) head_dist = std::make_unique<Linear>(c.width, c.outputs);
  }

  Tensor *cls = nullptr, *dist = nullptr, *prefix_pos = nullptr, *freq_pos = nullptr,
         *time_pos = nullptr;
  PatchProjection projection;
  std::vector<std::unique_ptr<Block>> blocks;
  LayerNorm norm, head_norm;
  Linear head;
  std::unique_ptr<Linear> head_dist;
};

Passt::Passt(const PasstConfig& config) : config_(config) {
  config_.validate();
  const PasstConfig& c = config_;
  parts_ = std::make_unique<Parts>(c);
  Parts& p = *parts_;
  p.cls = &add_parameter("cls_token", {1, 1, c.width});
  p.dist = &add_parameter("dist_token", {1, 1, c.width});
  p.prefix_pos = &add_parameter("new_pos_embed", {1, kPrefixTokens, c.width});
  p.freq_pos = &add_parameter("freq_new_pos_embed", {1, c.width, c.grid_f(), 1});
  p.time_pos = &add_parameter("time_new_pos_embed", {1, c.width, 1, c.table_t});
  add_module("patch_embed.proj", p.projection);
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    add_module("blocks." + std::to_string(i), *p.blocks[i]);
  }
  add_module("norm", p.norm);
  add_module("head.0", p.head_norm);
  add_module("head.1", p.head);
  if (p.head_dist) add_module("head_dist", *p.head_dist);
}

Passt::~Passt() = default;

void Passt::initialize(std::uint64_t seed) {
  // Bound of the convolution as torch.nn.Conv2d draws it; everything else as timm's ViT.
  const double conv_bound = 1 / std::sqrt(static_cast<double>(config_.patch_f * config_.patch_t));
  std::uint64_t index = 0;
  for (const NamedParameter& parameter : parameters()) {
    const std::string& name = parameter.name;
    const Tensor& x = parameter.tensor;
    const bool is_norm = name.find("norm") != std::string::npos || name.starts_with("head.0.");
    if (name.starts_with("patch_embed.")) {
      fill_uniform(x, conv_bound, seed, index);
    } else if (is_norm) {
      fill_constant(x, name.ends_with(".weight") ? 1.0f : 0.0f);
    } else if (name.ends_with(".bias")) {
      fill_constant(x, 0);
    } else {
      fill_trunc_normal(x, 0.02, 2.0, seed, index);
    }
    ++index;
  }
}

ops::PatchGrid Passt::whole_grid(std::int64_t frames) const {
  if (frames < config_.patch_t) {
    fail(ExitCode::kBadData, "passt: ", frames, " mel frames, want at least ", config_.patch_t);
  }
  ops::PatchGrid grid;
  grid.stride_f = config_.stride_f;
  grid.stride_t = config_.stride_t;
  grid.grid_f = config_.grid_f();
  grid.grid_t = std::min(config_.grid_t(frames), config_.table_t);
  return grid;
}

Passt::Output Passt::forward(const Tensor& mel, const Patchout& patchout, std::uint64_t seed,
                             std::uint64_t step) const {
  ONPA_CHECK(mel.defined() && mel.shape().rank() == 3 && mel.size(1) == config_.mels, "passt: mel ",
             mel.shape(), ", want (B, ", config_.mels, ", T)");
  ops::PatchGrid grid = whole_grid(mel.size(2));
  if (training()) {
    kernels::DrawPatchout draw = patchout_draw(patchout, grid.grid_f, grid.grid_t, config_.table_t);
    draw.seed = seed;
    draw.step = step;
    draw.state = step_state();
    grid.keep_device = Tensor::empty({draw.kept()}, DType::kI32, mel.device());
    grid.time_offset_device = Tensor::empty({1}, DType::kI32, mel.device());
    draw.keep = grid.keep_device.data<std::int32_t>();
    draw.time_offset = grid.time_offset_device.data<std::int32_t>();
    const OpScope scope("draw_patchout", [&] {
      return OpWork{0, ops::bytes_of(grid.keep_device)};
    });
    on_device(mel.device(), [&](auto dev) { kernels::draw_patchout(dev, draw); });
  }
  return forward_grid(mel, grid);
}

Passt::Output Passt::forward_grid(const Tensor& mel, const ops::PatchGrid& grid) const {
  return forward_tokens(tokens(mel, grid));
}

Tensor Passt::tokens(const Tensor& mel, const ops::PatchGrid& grid,
                     const Tensor& time_table) const {
  const Parts& p = *parts_;
  return ops::patch_tokens(mel,
                           {.weight = p.projection.weight,
                            .bias = p.projection.bias,
                            .cls = *p.cls,
                            .dist = *p.dist,
                            .prefix_pos = *p.prefix_pos,
                            .freq_pos = *p.freq_pos,
                            .time_pos = time_table.defined() ? time_table : *p.time_pos},
                           grid);
}

Passt::Output Passt::forward_tokens(const Tensor& tokens, std::vector<Tensor>* block_inputs) const {
  const Parts& p = *parts_;
  Tensor x = tokens;
  // The head reads the two leading tokens only, so the last block works out only those.
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    if (block_inputs != nullptr) block_inputs->push_back(x);
    // What is frozen down to here has no backward pass to work anything out again for.
    const bool learns =
        recompute_ == Recompute::kNone || x.requires_grad() || requires_grad(*p.blocks[i]);
    x = p.blocks[i]->forward(x, i + 1 == p.blocks.size() ? kPrefixTokens : 0,
                             learns ? recompute_ : Recompute::kNone);
  }
  Output out;
  out.features = ops::leading_mean(p.norm.forward(x), kPrefixTokens);
  out.logits = p.head.forward(p.head_norm.forward(out.features));
  return out;
}

const Block& Passt::block(std::int64_t index) const {
  ONPA_CHECK(index >= 0 && index < config_.depth, "passt: block ", index, ", want 0 to ",
             config_.depth - 1);
  return *parts_->blocks[static_cast<std::size_t>(index)];
}

const Tensor& Passt::patch_weight() const {
  return parts_->projection.weight;
}

}  // namespace onpa::nn
