#include "nn/adapt.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "kernels/error.h"

namespace onpa::nn {
namespace {

using Tensors = std::map<std::string, Tensor>;

constexpr std::int64_t kLeadingTokens = 2;  // class and distillation
constexpr std::int64_t kHeadWidth = 64;

// Which old places a new one is made of.
struct Taps {
  std::vector<std::int64_t> from;
  std::vector<double> weight;
};

std::int64_t clamped(std::int64_t at, std::int64_t size) {
  return std::clamp<std::int64_t>(at, 0, size - 1);
}

// Where the middle of new place `at` lies among the middles of the old ones.
double old_place(std::int64_t at, std::int64_t from, std::int64_t to) {
  return (static_cast<double>(at) + 0.5) * static_cast<double>(from) / static_cast<double>(to) -
         0.5;
}

Taps linear_taps(std::int64_t at, std::int64_t from, std::int64_t to) {
  const double place = std::max(0.0, old_place(at, from, to));
  const auto left = static_cast<std::int64_t>(place);
  const double fraction = place - static_cast<double>(left);
  return {{clamped(left, from), clamped(left + 1, from)}, {1 - fraction, fraction}};
}

// Cubic convolution (Keys) with the parameter that PyTorch has.
double cubic(double distance) {
  constexpr double kA = -0.75;
  const double x = std::abs(distance);
  if (x <= 1) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
  if (x < 2) return ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA;
  return 0;
}

Taps cubic_taps(std::int64_t at, std::int64_t from, std::int64_t to) {
  const double place = old_place(at, from, to);
  const auto left = static_cast<std::int64_t>(std::floor(place));
  Taps taps;
  for (std::int64_t k = left - 1; k <= left + 2; ++k) {
    taps.from.push_back(clamped(k, from));
    taps.weight.push_back(cubic(place - static_cast<double>(k)));
  }
  return taps;
}

using TapsOf = Taps (*)(std::int64_t at, std::int64_t from, std::int64_t to);

Tensor resize(const Tensor& grid, std::int64_t rows, std::int64_t columns, TapsOf taps_of) {
  ONPA_CHECK(grid.shape().rank() == 4 && grid.size(0) == 1 && grid.numel() > 0 &&
                 grid.dtype() == DType::kF32,
             "resize: ", grid.shape(), ", want f32 (1, C, H, W)");
  ONPA_CHECK(rows > 0 && columns > 0, "resize: to ", rows, " x ", columns);
  const std::int64_t channels = grid.size(1), height = grid.size(2), width = grid.size(3);
  std::vector<Taps> down, across;
  for (std::int64_t r = 0; r < rows; ++r) down.push_back(taps_of(r, height, rows));
  for (std::int64_t c = 0; c < columns; ++c) across.push_back(taps_of(c, width, columns));
  const Tensor out = Tensor::empty({1, channels, rows, columns});
  float* y = out.data<float>();
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    const float* x = grid.data<float>() + channel * height * width;
    for (const Taps& vertical : down) {
      for (const Taps& horizontal : across) {
        double sum = 0;
        for (std::size_t i = 0; i < vertical.from.size(); ++i) {
          double row = 0;
          for (std::size_t j = 0; j < horizontal.from.size(); ++j) {
            row += horizontal.weight[j] *
                   static_cast<double>(x[vertical.from[i] * width + horizontal.from[j]]);
          }
          sum += vertical.weight[i] * row;
        }
        *y++ = static_cast<float>(sum);
      }
    }
  }
  return out;
}

// The first `columns` of a time table (1, C, 1, T).
Tensor crop_time_table(const Tensor& table, std::int64_t columns) {
  const Tensor out = Tensor::empty({1, table.size(1), 1, columns});
  for (std::int64_t c = 0; c < table.size(1); ++c) {
    std::copy_n(table.data<float>() + c * table.size(3), columns, out.data<float>() + c * columns);
  }
  return out;
}

Tensors by_name(const io::NamedTensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

const Tensor& tensor_of(const Tensors& tensors, const std::string& name, int rank) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail(ExitCode::kBadCheckpoint, "no tensor ", name);
  if (found->second.shape().rank() != rank || found->second.numel() == 0) {
    fail(ExitCode::kBadCheckpoint, "tensor ", name, " has shape ", found->second.shape(), ", want ",
         rank, " axes");
  }
  return found->second;
}

std::string block_name(std::int64_t block) {
  return "blocks." + std::to_string(block) + ".";
}

std::int64_t count_blocks(const Tensors& tensors) {
  std::int64_t depth = 0;
  while (tensors.contains(block_name(depth) + "norm1.weight")) ++depth;
  return depth;
}

// Leaves blocks out, so that `want` are left, and numbers them anew.
void cut_depth(Tensors& tensors, std::int64_t found, std::int64_t want, Adapted& out) {
  if (found == want) return;
  const std::vector<std::int64_t> kept = kept_blocks(found);
  if (std::ssize(kept) != want) {
    fail(ExitCode::kConfig, "the weights have ", found, " blocks, model.depth is ", want, ": want ",
         found, ", or ", kept.size(), " (the first, every second one and the last)");
  }
  Tensors cut;
  for (auto& [name, tensor] : tensors) {
    if (!name.starts_with("blocks.")) cut.emplace(name, tensor);
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const std::string from = block_name(kept[i]), to = block_name(static_cast<std::int64_t>(i));
    for (const auto& [name, tensor] : tensors) {
      if (name.starts_with(from)) cut.emplace(to + name.substr(from.size()), tensor);
    }
  }
  tensors = std::move(cut);
  out.changes.push_back(
      detail::concat(want, " of ", found, " blocks: the first, every second one and the last"));
}

void fit_table(Tensors& tensors, const PasstConfig& found, const PasstConfig& want,
               const AdaptOptions& options, Adapted& out) {
  if (found.table_t == want.table_t) return;
  Tensor& table = tensors.at("time_new_pos_embed");
  if (options.interpolate_table) {
    table = resize_time_table(table, want.table_t);
    out.changes.push_back(detail::concat("time table interpolated from ", found.table_t, " to ",
                                         want.table_t, " columns"));
    return;
  }
  if (want.table_t > found.table_t) {
    fail(ExitCode::kConfig, "the weights' time table has ", found.table_t,
         " columns, model.table_t is ", want.table_t, ": want at most ", found.table_t,
         ", or model.time_table=interpolate to stretch it");
  }
  table = crop_time_table(table, want.table_t);
  out.changes.push_back(detail::concat("the first ", want.table_t, " of ", found.table_t,
                                       " columns of the time table"));
}

void fit_head(Tensors& tensors, const PasstConfig& found, const PasstConfig& want, Adapted& out) {
  if (!want.head_dist || found.outputs != want.outputs) {
    tensors.erase("head_dist.weight");
    tensors.erase("head_dist.bias");
  }
  if (found.outputs == want.outputs) return;
  tensors.erase("head.1.weight");
  tensors.erase("head.1.bias");
  out.changes.push_back(detail::concat("a new head for ", want.outputs,
                                       want.outputs == 1 ? " output" : " outputs", " instead of ",
                                       found.outputs, " (head.0 is kept)"));
}

// What no rule changes must be equal.
void check_same(const char* setting, std::int64_t found, std::int64_t want) {
  if (found == want) return;
  fail(ExitCode::kConfig, setting, " is ", want, ", the weights have ", found, ": leave ", setting,
       " out, or train without them");
}

// Every tensor against the parameters of a `want`. What is missing is to be initialised, which only
// parts of the head may be: `free`, and the head that nothing reads.
void finish(Tensors tensors, const PasstConfig& want, const std::string& free, Adapted& out) {
  for (const NamedParameter& parameter : Passt(want).parameters()) {
    const std::string& name = parameter.name;
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      if (!name.starts_with(free) && !name.starts_with("head_dist.")) {
        fail(ExitCode::kBadCheckpoint, "no tensor ", name);
      }
      out.initialized.push_back(name);
      continue;
    }
    if (found->second.shape() != parameter.tensor.shape()) {
      fail(ExitCode::kBadCheckpoint, "tensor ", name, " has shape ", found->second.shape(),
           ", want ", parameter.tensor.shape());
    }
    out.tensors.emplace_back(name, found->second);
    tensors.erase(found);
  }
  if (tensors.empty()) return;
  fail(ExitCode::kBadCheckpoint, "tensor ", tensors.begin()->first,
       tensors.size() > 1 ? detail::concat(" and ", tensors.size() - 1, " more are") : " is",
       " none of a PaSST's");
}

// (outputs, 3, H, W) to (outputs, 1, H, W).
Tensor sum_of_channels(const Tensor& weight) {
  const std::int64_t channels = weight.size(1), cells = weight.size(2) * weight.size(3);
  const Tensor out = Tensor::empty({weight.size(0), 1, weight.size(2), weight.size(3)});
  for (std::int64_t o = 0; o < weight.size(0); ++o) {
    for (std::int64_t i = 0; i < cells; ++i) {
      double sum = 0;
      for (std::int64_t c = 0; c < channels; ++c) {
        sum += static_cast<double>(weight.data<float>()[(o * channels + c) * cells + i]);
      }
      out.data<float>()[o * cells + i] = static_cast<float>(sum);
    }
  }
  return out;
}

// Side of the square grid that pos_embed (1, 2 + side^2, C) has; 0 if there is none.
std::int64_t grid_side(const Tensor& positions) {
  const std::int64_t cells = positions.size(1) - kLeadingTokens;
  if (cells < 1) return 0;
  const auto side = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(cells))));
  return side * side == cells ? side : 0;
}

// The patches of pos_embed as (1, C, side, side).
Tensor grid_of(const Tensor& positions, std::int64_t side) {
  const std::int64_t width = positions.size(2), cells = side * side;
  const Tensor grid = Tensor::empty({1, width, side, side});
  const float* from = positions.data<float>() + kLeadingTokens * width;
  for (std::int64_t c = 0; c < width; ++c) {
    for (std::int64_t cell = 0; cell < cells; ++cell) {
      grid.data<float>()[c * cells + cell] = from[cell * width + c];
    }
  }
  return grid;
}

// Means of (1, C, H, W) over the axis that is not kept, 2 or 3.
Tensor mean_beside(const Tensor& grid, int kept, const Shape& shape) {
  const Tensor out = Tensor::empty(shape);
  const std::int64_t width = grid.size(3), cells = grid.size(2) * width, size = grid.size(kept);
  for (std::int64_t c = 0; c < grid.size(1); ++c) {
    std::vector<double> sum(static_cast<std::size_t>(size));
    for (std::int64_t i = 0; i < cells; ++i) {
      sum[static_cast<std::size_t>(kept == 2 ? i / width : i % width)] +=
          static_cast<double>(grid.data<float>()[c * cells + i]);
    }
    for (std::int64_t i = 0; i < size; ++i) {
      out.data<float>()[c * size + i] =
          static_cast<float>(sum[static_cast<std::size_t>(i)] * static_cast<double>(size) /
                             static_cast<double>(cells));
    }
  }
  return out;
}

// pos_embed as the three tables of a PaSST.
void split_positions(Tensors& tensors, const PasstConfig& want, Adapted& out) {
  const Tensor positions = tensors.at("pos_embed");
  const std::int64_t side = grid_side(positions), width = positions.size(2);
  const std::int64_t rows = want.grid_f(), columns = want.table_t;
  const Tensor leading = Tensor::empty({1, kLeadingTokens, width});
  std::copy_n(positions.data<float>(), kLeadingTokens * width, leading.data<float>());
  const Tensor grid = resize_bicubic(grid_of(positions, side), rows, columns);
  tensors.erase("pos_embed");
  tensors["new_pos_embed"] = leading;
  tensors["freq_new_pos_embed"] = mean_beside(grid, 2, {1, width, rows, 1});
  tensors["time_new_pos_embed"] = mean_beside(grid, 3, {1, width, 1, columns});
  out.changes.push_back(detail::concat("positions of ", side, " x ", side,
                                       " image patches resized to ", rows, " x ", columns));
}

}  // namespace

Tensor resize_time_table(const Tensor& table, std::int64_t columns) {
  ONPA_CHECK(table.shape().rank() == 4 && table.size(2) == 1, "resize_time_table: ", table.shape(),
             ", want (1, C, 1, T)");
  return resize(table, 1, columns, linear_taps);
}

Tensor resize_bicubic(const Tensor& grid, std::int64_t rows, std::int64_t columns) {
  return resize(grid, rows, columns, cubic_taps);
}

std::vector<std::int64_t> kept_blocks(std::int64_t depth) {
  std::vector<std::int64_t> kept;
  if (depth > 0) kept.push_back(0);
  for (std::int64_t block = 1; block < depth - 1; block += 2) kept.push_back(block);
  if (depth > 1) kept.push_back(depth - 1);
  return kept;
}

Adapted adapt_weights(const io::NamedTensors& tensors, const PasstConfig& found,
                      const PasstConfig& want, const AdaptOptions& options) {
  check_same("mel.mels", found.mels, want.mels);
  check_same("model.patch_f", found.patch_f, want.patch_f);
  check_same("model.patch_t", found.patch_t, want.patch_t);
  check_same("model.stride_f", found.stride_f, want.stride_f);
  check_same("model.stride_t", found.stride_t, want.stride_t);
  check_same("model.width", found.width, want.width);
  check_same("model.heads", found.heads, want.heads);
  check_same("model.mlp", found.mlp, want.mlp);
  Tensors named = by_name(tensors);
  const Tensor& table = tensor_of(named, "time_new_pos_embed", 4);
  if (table.size(3) != found.table_t || count_blocks(named) != found.depth) {
    fail(ExitCode::kBadCheckpoint, count_blocks(named), " blocks and a time table of ",
         table.size(3), " columns, want ", found.depth, " and ", found.table_t);
  }
  Adapted out;
  cut_depth(named, found.depth, want.depth, out);
  fit_table(named, found, want, options, out);
  fit_head(named, found, want, out);
  finish(std::move(named), want, "head.1.", out);
  return out;
}

bool is_deit(const io::NamedTensors& tensors) {
  const Tensors named = by_name(tensors);
  return named.contains("pos_embed") && named.contains("dist_token") &&
         named.contains("patch_embed.proj.weight") && !named.contains("time_new_pos_embed");
}

PasstConfig deit_config(const io::NamedTensors& tensors, PasstConfig base) {
  const Tensors named = by_name(tensors);
  const Tensor& patch = tensor_of(named, "patch_embed.proj.weight", 4);
  base.width = patch.size(0);
  base.patch_f = patch.size(2);
  base.patch_t = patch.size(3);
  base.depth = count_blocks(named);
  base.mlp = tensor_of(named, "blocks.0.mlp.fc1.weight", 2).size(0);
  if (base.width % kHeadWidth != 0) {
    fail(ExitCode::kBadCheckpoint, "width ", base.width, ", want a multiple of ", kHeadWidth);
  }
  base.heads = base.width / kHeadWidth;
  const Tensor& positions = tensor_of(named, "pos_embed", 3);
  if (positions.size(2) != base.width || grid_side(positions) == 0) {
    fail(ExitCode::kBadCheckpoint, "tensor pos_embed has shape ", positions.shape(), ", want (1, ",
         kLeadingTokens, " + a square of patches, ", base.width, ")");
  }
  return base;
}

Adapted adapt_deit(const io::NamedTensors& tensors, const PasstConfig& want) {
  const PasstConfig found = deit_config(tensors, want);
  check_same("model.patch_f", found.patch_f, want.patch_f);
  check_same("model.patch_t", found.patch_t, want.patch_t);
  check_same("model.width", found.width, want.width);
  check_same("model.mlp", found.mlp, want.mlp);
  Tensors named = by_name(tensors);
  std::erase_if(named, [](const auto& entry) { return entry.first.starts_with("head"); });
  Adapted out;
  cut_depth(named, found.depth, want.depth, out);
  Tensor& patch = named.at("patch_embed.proj.weight");
  out.changes.push_back(
      detail::concat("patches of an image: ", patch.size(1), " channels summed to one"));
  patch = sum_of_channels(patch);
  split_positions(named, want, out);
  out.changes.push_back(
      detail::concat("a new head for ", want.outputs, want.outputs == 1 ? " output" : " outputs"));
  finish(std::move(named), want, "head.", out);
  return out;
}

}  // namespace onpa::nn
