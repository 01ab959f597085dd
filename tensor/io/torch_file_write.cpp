#include "tensor/io/torch_file_write.h"

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/error.h"
#include "tensor/io/safetensors_header.h"

namespace onpa::io {
namespace {

constexpr std::uint64_t kMostBytes = 0xffff'0000;
constexpr std::size_t kMostTensors = 65'000;
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLocalBytes = 30, kExtraHead = 4;

// The checksum of zip (CRC-32 of ISO 3309), eight bits at a time.
std::uint32_t checksum(std::span<const std::byte> bytes) {
  static const auto kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1u) ? 0xedb88320u ^ (c >> 1) : c >> 1;
      table[i] = c;
    }
    return table;
  }();
  std::uint32_t c = ~0u;
  for (const std::byte b : bytes)
    c = kTable[(c ^ std::to_integer<std::uint32_t>(b)) & 255u] ^ (c >> 8);
  return ~c;
}

void put(std::string& out, std::uint64_t value, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) out += static_cast<char>((value >> (8 * i)) & 255u);
}

// Entries one after the other, then the table of contents. Source: PKWARE's APPNOTE.
class ZipWriter {
 public:
  explicit ZipWriter(FileWriter& file) : file_(file) {}

  void add(const std::string& name, std::span<const std::byte> bytes) {
    const std::uint64_t offset = file_.bytes_written();
    // An extra field that means nothing moves the data to its place.
    const std::size_t start = offset + kLocalBytes + name.size() + kExtraHead;
    const std::size_t padding = (kAlignment - start % kAlignment) % kAlignment;
    const std::string facts = describe(bytes);
    std::string head;
    put(head, 0x04034b50, 4);
    head += facts;
    put(head, name.size(), 2);
    put(head, kExtraHead + padding, 2);
    head += name + "FB";
    put(head, padding, 2);
    head.append(padding, 'Z');
    file_.write(head);
    file_.write(bytes.data(), bytes.size());

    put(table_, 0x02014b50, 4);
    put(table_, 0, 2);
    table_ += facts;
    put(table_, name.size(), 2);
    table_.append(12, '\0');  // no extra field or comment, first disk, no attributes
    put(table_, offset, 4);
    table_ += name;
    ++count_;
  }
  void add(const std::string& name, const std::string& text) {
    add(name, std::as_bytes(std::span(text)));
  }

  void finish() {
    const std::uint64_t offset = file_.bytes_written();
    std::string end;
    put(end, 0x06054b50, 4);
    put(end, 0, 4);
    put(end, count_, 2);
    put(end, count_, 2);
    put(end, table_.size(), 4);
    put(end, offset, 4);
    put(end, 0, 2);
    file_.write(table_);
    file_.write(end);
  }

 private:
  // What both headers of an entry say: version, flags, stored, no time, checksum, both sizes.
  static std::string describe(std::span<const std::byte> bytes) {
    std::string out;
    put(out, 20, 2);
    put(out, 0, 4);
    put(out, 0, 2);
    put(out, (1 << 5) | 1, 2);  // 1 January 1980
    put(out, checksum(bytes), 4);
    put(out, bytes.size(), 4);
    put(out, bytes.size(), 4);
    return out;
  }

  FileWriter& file_;
  std::string table_;
  std::uint64_t count_ = 0;
};

// --- the pickle, protocol 2 ---

std::string text(const std::string& value) {
  std::string out = "X";
  put(out, value.size(), 4);
  return out + value;
}

std::string number(std::int64_t value) {
  std::string out(1, '\x8a');
  put(out, 8, 1);
  put(out, static_cast<std::uint64_t>(value), 8);
  return out;
}

std::string tuple(std::span<const std::int64_t> values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += number(value);
  return out + "t";
}

std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

std::string tensor_call(const Tensor& tensor, const std::string& key) {
  const auto extents = tensor.shape().extents();
  std::vector<std::int64_t> strides(extents.size());
  std::int64_t stride = 1;
  for (std::size_t i = extents.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= extents[i];
  }
  return global("torch._utils", "_rebuild_tensor_v2") + "((" + text("storage") +
         global("torch", "FloatStorage") + text(key) + text("cpu") + number(tensor.numel()) + "tQ" +
         number(0) + tuple(extents) + tuple(strides) + "\x89" +
         global("collections", "OrderedDict") + ")RtR";
}

std::string state_dict(const NamedTensors& tensors) {
  std::string out = "\x80\x02" + global("collections", "OrderedDict") + ")R(";
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    out += text(tensors[i].first) + tensor_call(tensors[i].second, std::to_string(i));
  }
  return out + "u.";
}

}  // namespace

void write_torch_file(const std::filesystem::path& path, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    ONPA_CHECK(
        tensor.defined() && tensor.device() == DeviceKind::kCpu && tensor.dtype() == DType::kF32,
        "torch file: tensor ", name, " is not f32 on the CPU");
    bytes += tensor.byte_count() + name.size() + 1024;
  }
  if (bytes > kMostBytes || tensors.size() > kMostTensors) {
    fail(ExitCode::kConfig, path.string(), ": ", tensors.size(), " tensors of ", bytes,
         " bytes are too many for a .pt file, write .safetensors");
  }
  write_file_atomic(path, [&](FileWriter& file) {
    ZipWriter zip(file);
    const std::string folder = "archive/";
    zip.add(folder + "data.pkl", state_dict(tensors));
    zip.add(folder + "byteorder", "little");
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Tensor& tensor = tensors[i].second;
      zip.add(folder + "data/" + std::to_string(i),
              std::span<const std::byte>(tensor.bytes(), tensor.byte_count()));
    }
    zip.add(folder + "version", "3\n");
    if (!metadata.empty()) {
      zip.add(folder + kTorchMetadataEntry,
              format_safetensors_header({.entries = {}, .metadata = metadata}));
    }
    zip.finish();
  });
}

}  // namespace onpa::io
