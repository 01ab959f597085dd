#include "nn/passt_io.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

namespace onpa::nn {
namespace {

using Metadata = std::map<std::string, std::string>;
using Shapes = std::map<std::string, Shape>;

constexpr std::int64_t kPublishedMels = 128;
constexpr std::int64_t kPublishedHeadWidth = 64;
// Input lengths, in frames, that published time tables were made for (table = frames / stride).
constexpr std::int64_t kPublishedFrames[] = {998, 2000, 3000, 3200};

struct Field {
  const char* name;
  std::int64_t PasstConfig::*member;
};
constexpr Field kFields[] = {
    {"mels", &PasstConfig::mels},         {"patch_f", &PasstConfig::patch_f},
    {"patch_t", &PasstConfig::patch_t},   {"stride_f", &PasstConfig::stride_f},
    {"stride_t", &PasstConfig::stride_t}, {"table_t", &PasstConfig::table_t},
    {"width", &PasstConfig::width},       {"heads", &PasstConfig::heads},
    {"depth", &PasstConfig::depth},       {"mlp", &PasstConfig::mlp},
    {"outputs", &PasstConfig::outputs},
};

std::string key_of(const char* field) {
  return std::string("passt.") + field;
}

std::optional<std::int64_t> from_metadata(const Metadata& metadata, const char* field) {
  const auto found = metadata.find(key_of(field));
  if (found == metadata.end()) return {};
  const std::string& text = found->second;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail(ExitCode::kBadCheckpoint, "passt: metadata ", key_of(field), " is '", text,
         "', want a whole number");
  }
  return value;
}

// A file of other weights is known by the names that it has.
[[noreturn]] void fail_missing(const Shapes& shapes, const std::string& name) {
  if (shapes.contains("pos_embed") && shapes.contains("patch_embed.proj.weight")) {
    fail(ExitCode::kBadCheckpoint, "passt: an image transformer (it has pos_embed, and no ", name,
         "), not a PaSST; one can be trained from it: onpa train passt --init-from FILE");
  }
  constexpr std::size_t kShown = 4;
  std::string names;
  for (const auto& [there, shape] : shapes) {
    if (std::count(names.begin(), names.end(), ',') + 1 >= static_cast<std::ptrdiff_t>(kShown))
      break;
    names += (names.empty() ? "" : ", ") + there;
  }
  fail(ExitCode::kBadCheckpoint, "passt: no tensor ", name, "; the file has ", shapes.size(),
       " tensors", shapes.empty() ? "" : ": ", names, shapes.size() > kShown ? ", ..." : "",
       "; want the state_dict() of a PaSST");
}

// Extent `axis` of a tensor that every PaSST has.
std::int64_t extent(const Shapes& shapes, const std::string& name, int rank, int axis) {
  const auto found = shapes.find(name);
  if (found == shapes.end()) fail_missing(shapes, name);
  if (found->second.rank() != rank) {
    fail(ExitCode::kBadCheckpoint, "passt: tensor ", name, " has shape ", found->second, ", want ",
         rank, " axes");
  }
  return found->second[axis];
}

std::string first_of_block(std::int64_t block) {
  return "blocks." + std::to_string(block) + ".norm1.weight";
}

// Blocks are numbered without a gap: one that lacks its first tensor would hide those after it.
std::int64_t count_blocks(const Shapes& shapes) {
  constexpr std::string_view kBlocks = "blocks.";
  std::int64_t depth = 0;
  while (shapes.contains(first_of_block(depth))) ++depth;
  for (auto it = shapes.lower_bound(std::string(kBlocks));
       it != shapes.end() && it->first.starts_with(kBlocks); ++it) {
    const std::string& name = it->first;
    std::int64_t block = -1;
    std::from_chars(name.data() + kBlocks.size(), name.data() + name.size(), block);
    if (block >= depth) {
      fail(ExitCode::kBadCheckpoint, "passt: no tensor ", first_of_block(depth), ", but there is ",
           name);
    }
  }
  return depth;
}

// The stride whose grid has `rows` rows; where several do (9 rows: 13 or 14), the one that makes
// `columns` a published table length.
std::int64_t infer_stride(std::int64_t mels, std::int64_t patch, std::int64_t rows,
                          std::int64_t columns) {
  std::vector<std::int64_t> fitting, published;
  for (std::int64_t stride = 1; stride <= patch; ++stride) {
    if ((mels - patch) / stride + 1 != rows) continue;
    fitting.push_back(stride);
    for (const std::int64_t frames : kPublishedFrames) {
      if (frames / stride == columns) {
        published.push_back(stride);
        break;
      }
    }
  }
  if (published.size() == 1) return published.front();
  if (fitting.size() == 1) return fitting.front();
  fail(ExitCode::kBadCheckpoint, "passt: freq_new_pos_embed has ", rows,
       " rows and time_new_pos_embed ", columns, " columns: ", fitting.size(),
       " strides fit, and the file has no metadata ", key_of("stride_f"));
}

void check_shape(const Shapes& shapes, const std::string& name, const Shape& want) {
  const auto found = shapes.find(name);
  if (found == shapes.end()) fail_missing(shapes, name);
  if (found->second != want) {
    fail(ExitCode::kBadCheckpoint, "passt: tensor ", name, " has shape ", found->second, ", want ",
         want);
  }
}

// A config must be backed by tensors of its size before a model of that size is allocated.
void check_backed(const PasstConfig& c, const Shapes& shapes) {
  check_shape(shapes, "cls_token", {1, 1, c.width});
  check_shape(shapes, "freq_new_pos_embed", {1, c.width, c.grid_f(), 1});
  check_shape(shapes, "time_new_pos_embed", {1, c.width, 1, c.table_t});
  check_shape(shapes, "patch_embed.proj.weight", {c.width, 1, c.patch_f, c.patch_t});
  check_shape(shapes, "head.1.weight", {c.outputs, c.width});
  if (count_blocks(shapes) != c.depth) {
    fail(ExitCode::kBadCheckpoint, "passt: ", count_blocks(shapes), " blocks, want ", c.depth);
  }
  for (std::int64_t i = 0; i < c.depth; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    check_shape(shapes, block + ".attn.qkv.weight", {3 * c.width, c.width});
    check_shape(shapes, block + ".mlp.fc1.weight", {c.mlp, c.width});
  }
}

}  // namespace

std::map<std::string, std::string> passt_metadata(const PasstConfig& config) {
  Metadata out;
  for (const Field& field : kFields) {
    out[key_of(field.name)] = std::to_string(config.*field.member);
  }
  out[key_of("head_dist")] = config.head_dist ? "1" : "0";
  return out;
}

PasstConfig infer_passt_config(const Shapes& shapes, const Metadata& metadata) {
  PasstConfig c;
  c.width = extent(shapes, "cls_token", 3, 2);
  c.patch_f = extent(shapes, "patch_embed.proj.weight", 4, 2);
  c.patch_t = extent(shapes, "patch_embed.proj.weight", 4, 3);
  c.table_t = extent(shapes, "time_new_pos_embed", 4, 3);
  c.outputs = extent(shapes, "head.1.weight", 2, 0);
  c.depth = count_blocks(shapes);
  c.mlp = extent(shapes, "blocks.0.mlp.fc1.weight", 2, 0);
  c.head_dist = shapes.contains("head_dist.weight");
  c.mels = from_metadata(metadata, "mels").value_or(kPublishedMels);
  if (!metadata.contains(key_of("heads"))) {
    if (c.width < 1 || c.width % kPublishedHeadWidth != 0) {
      fail(ExitCode::kBadCheckpoint, "passt: width ", c.width, " is no multiple of ",
           kPublishedHeadWidth, ", and the file has no metadata ", key_of("heads"));
    }
    c.heads = c.width / kPublishedHeadWidth;
  }
  if (!metadata.contains(key_of("stride_f"))) {
    c.stride_f =
        infer_stride(c.mels, c.patch_f, extent(shapes, "freq_new_pos_embed", 4, 2), c.table_t);
  }
  c.stride_t = c.stride_f;
  for (const Field& field : kFields) {
    if (const auto value = from_metadata(metadata, field.name)) c.*field.member = *value;
  }
  try {
    c.validate();
  } catch (const Error& error) {
    fail(ExitCode::kBadCheckpoint, error.what());
  }
  check_backed(c, shapes);
  return c;
}

PasstConfig infer_passt_config(const io::SafetensorsFile& file) {
  Shapes shapes;
  for (const auto& [name, tensor] : file.tensors) shapes[name] = tensor.shape();
  return infer_passt_config(shapes, file.metadata);
}

}  // namespace onpa::nn
