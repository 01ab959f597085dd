// Fitting given weights to another PaSST: another head, another clip length, fewer blocks, or an
// ImageNet transformer's weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/passt.h"
#include "tensor/io/safetensors.h"

namespace onpa::nn {

/// A time table (1, C, 1, T) with `columns` columns instead of T, linear in time between the old
/// ones, those at the edges held beyond them. f32. Throws Error (kInternal) for another shape.
/// Parity: torch.nn.functional.interpolate(mode="bilinear", align_corners=False).
Tensor resize_time_table(const Tensor& table, std::int64_t columns);

/// (1, C, H, W) resized to (1, C, rows, columns), f32. Parity: torch.nn.functional.interpolate(
/// mode="bicubic", align_corners=False), of f64 sums.
Tensor resize_bicubic(const Tensor& grid, std::int64_t rows, std::int64_t columns);

struct AdaptOptions {
  /// The time table may become longer, or shorter, by resize_time_table(). Otherwise a shorter one
  /// is the beginning of the given, and a longer one is an error.
  bool interpolate_table = false;
};

struct Adapted {
  io::NamedTensors tensors;  // of the wanted model's names and shapes; unchanged ones are shared
  std::vector<std::string>
      initialized;                   // parameters of that model that none of them is named after
  std::vector<std::string> changes;  // "head for 1 output instead of 527", for a person
};

/// The weights of a `found` PaSST as those of a `want`. They may differ in
/// - outputs: head.1 is left to its initialisation; head.0, the layer norm before it, is kept;
/// - head_dist, which nothing reads: left out, or left to its initialisation;
/// - table_t, see AdaptOptions;
/// - depth, if keeps_blocks(): blocks are left out and numbered anew.
/// Throws Error (kConfig) naming another field that differs, found, wanted and what to do;
/// kBadCheckpoint if a tensor is missing or has another shape than `found` says.
Adapted adapt_weights(const io::NamedTensors& tensors, const PasstConfig& found,
                      const PasstConfig& want, const AdaptOptions& options = {});

/// The blocks of `depth` that a shallower PaSST keeps: the first, every second one from the next
/// on, the last; of 12 blocks 0, 1, 3, 5, 7, 9, 11 (PaSST-L).
std::vector<std::int64_t> kept_blocks(std::int64_t depth);

/// Whether these are the weights of an image transformer with two leading tokens (DeiT distilled),
/// by their names.
bool is_deit(const io::NamedTensors& tensors);

/// The PaSST that a DeiT's weights are the start of: width, depth, mlp, patch and heads (64 wide)
/// as its tensors say, everything else as `base`. Throws Error (kBadCheckpoint) naming a tensor
/// that is missing or whose shape no DeiT has.
PasstConfig deit_config(const io::NamedTensors& tensors, PasstConfig base);

/// A DeiT's weights as the start of a `want`: the patch convolution summed over its input channels,
/// the leading rows of pos_embed, of the rest, a square grid resized to (grid_f, table_t), its
/// means over time and over frequency; the heads are left to their initialisation. Depth as in
/// adapt_weights(). Throws as it. Parity: the public code's pretrained passt_deit_bd_p16_384.
Adapted adapt_deit(const io::NamedTensors& tensors, const PasstConfig& want);

}  // namespace onpa::nn
