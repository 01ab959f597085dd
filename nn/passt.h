// PaSST, the patchout spectrogram transformer. Source: arXiv:2110.05069; parity: the public
// hear21passt package (features and logits).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"
#include "nn/transformer.h"
#include "tensor/ops/patch.h"

namespace onpa::nn {

struct PasstConfig {
  std::int64_t mels = 128;
  std::int64_t patch_f = 16, patch_t = 16;
  std::int64_t stride_f = 10, stride_t = 10;
  std::int64_t table_t = 99;  // columns of the time table
  std::int64_t width = 768, heads = 12, depth = 12, mlp = 3072;
  std::int64_t outputs = 527;  // classes, or 1 for regression
  bool head_dist = true;       // carry the unused distillation head of published files

  std::int64_t grid_f() const { return (mels - patch_f) / stride_f + 1; }
  std::int64_t grid_t(std::int64_t frames) const { return (frames - patch_t) / stride_t + 1; }
  /// The sizes of a published model: "passt-s" (12 blocks, stride 10, 10 s), "passt-l" (7 blocks);
  /// as passt-s with another stride, "passt-s-s12", "passt-s-s14", "passt-s-s16"; for longer clips,
  /// "passt-s-20sec", "passt-s-30sec"; with more frames a second, "passt-s-hop160",
  /// "passt-s-hop100". And "passt-xs" (mels 32, patch 8, stride 5, width 64, depth 2, heads 4:
  /// tests and the demo). Throws Error (kConfig) for another name.
  static PasstConfig preset(const std::string& name);
  static std::vector<std::string> preset_names();
  /// Throws Error (kConfig) naming the field that is out of range.
  void validate() const;
};

/// How many columns, rows and single patches a training step leaves out.
struct Patchout {
  std::int64_t time = 0, freq = 0, unstructured = 0;
};

/// What goes with the sizes of a preset: samples between frames, length of a clip, and what a
/// training step leaves out of it. Patchout is that of the publication, in proportion to the grid
/// where it gives none.
struct PasstInput {
  std::int64_t hop_samples = 320;
  double seconds = 10;
  Patchout patchout = {};
};
/// Throws Error (kConfig) for a name that is no preset.
PasstInput preset_input(const std::string& name);

/// Kept grid cells f * grid_t + t, ascending. Throws Error (kConfig) if fewer than one would be
/// kept.
std::vector<std::int32_t> draw_patchout(const Patchout& patchout, std::int64_t grid_f,
                                        std::int64_t grid_t, std::uint64_t seed,
                                        std::uint64_t step);

class Passt : public Module {
 public:
  explicit Passt(const PasstConfig& config);
  ~Passt() override;

  /// Truncated normal 0.02 etc., as the public code; depends on `seed` alone.
  void initialize(std::uint64_t seed);

  struct Output {
    Tensor logits;    // (B, outputs)
    Tensor features;  // (B, width): mean of class and distillation token
  };
  /// mel (B, mels, T). In training mode draws patchout and the time offset from (seed, step); in
  /// eval mode uses all patches and offset 0. More frames than the table covers are cut off.
  /// Throws Error if mels disagree or T is under one patch.
  Output forward(const Tensor& mel, const Patchout& patchout = {}, std::uint64_t seed = 0,
                 std::uint64_t step = 0) const;
  /// As forward with a given grid (parity tests).
  Output forward_grid(const Tensor& mel, const ops::PatchGrid& grid) const;

  /// The grid that forward() uses in evaluation mode. Throws Error (kBadData) if `frames` is under
  /// one patch.
  ops::PatchGrid whole_grid(std::int64_t frames) const;
  /// The two halves of forward_grid(): mel to the first block's input (B, 2 + kept, width), and
  /// that to the output, differentiable in `tokens` too. `block_inputs` gets every block's input.
  /// With a `time_table` (1, width, 1, columns) that one is used in place of the model's.
  Tensor tokens(const Tensor& mel, const ops::PatchGrid& grid,
                const Tensor& time_table = Tensor()) const;
  Output forward_tokens(const Tensor& tokens, std::vector<Tensor>* block_inputs = nullptr) const;
  const Block& block(std::int64_t index) const;
  /// The patch projection (width, 1, patch_f, patch_t).
  const Tensor& patch_weight() const;

  /// What the blocks drop in training and work out again in backward; changes no result.
  void set_recompute(Recompute level) { recompute_ = level; }

  const PasstConfig& config() const { return config_; }

 private:
  struct Parts;
  PasstConfig config_;
  Recompute recompute_ = Recompute::kNone;
  std::unique_ptr<Parts> parts_;
};

}  // namespace onpa::nn
