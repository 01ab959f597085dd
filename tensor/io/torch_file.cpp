#include "tensor/io/torch_file.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "kernels/error.h"
#include "tensor/io/byte_input.h"
#include "tensor/io/half_types.h"
#include "tensor/io/safetensors_header.h"
#include "tensor/io/torch_file_write.h"
#include "tensor/io/torch_legacy.h"
#include "tensor/io/torch_zip.h"

namespace onpa::io {
namespace {

using Kind = PickleValue::Kind;

constexpr std::uint64_t kMostPickleBytes = std::uint64_t{32} << 20;
constexpr std::uint64_t kMostMetadataBytes = std::uint64_t{1} << 20;
// Of storages: room for halves that become f32, and for tensors that share a storage.
constexpr std::uint64_t kMostExpansion = 4;
__extension__ using Wide = __int128;

// Storages with the file under them.
template <class Container>
class Open : public TorchStorages {
 public:
  explicit Open(std::unique_ptr<ByteInput> input) : input_(std::move(input)), container_(*input_) {}
  std::int64_t bytes(const std::string& key) const override { return container_.bytes(key); }
  void read(const std::string& key, std::span<std::byte> out) const override {
    container_.read(key, out);
  }
  std::uint64_t total_bytes() const override { return container_.total_bytes(); }
  const Container& container() const { return container_; }

 private:
  std::unique_ptr<ByteInput> input_;
  Container container_;
};

template <class... Parts>
[[noreturn]] void refuse(const TorchFile& file, const Parts&... parts) {
  fail(ExitCode::kBadCheckpoint, file.name, ": ", detail::concat(parts...));
}

void check_storage(const TorchFile& file, const PickleValue& storage) {
  const std::int64_t there = file.storages->bytes(storage.text);
  if (there < 0) refuse(file, "storage ", shown_text(storage.text), " is not in the file");
  const Wide want = static_cast<Wide>(storage.integer) * static_cast<Wide>(size_of(storage.type));
  if (want != there) {
    refuse(file, "storage ", shown_text(storage.text), " has ", there, " bytes, want ",
           storage.integer, " elements of ", name_of(storage.type));
  }
}

std::vector<std::int64_t> numbers(const TorchFile& file, PickleRef tuple) {
  std::vector<std::int64_t> out;
  for (const PickleRef item : file.content[tuple].items) {
    out.push_back(file.content[item].integer);
  }
  return out;
}

// Where a tensor's elements lie in its storage.
struct Layout {
  std::vector<std::int64_t> extents, strides;
  std::int64_t first = 0, count = 1;
  bool contiguous = true;
};

// The last element must be in the storage; products are too large for 64 bits if a file wants so.
Layout checked_layout(const TorchFile& file, const PickleValue& tensor) {
  const PickleValue& storage = file.content[tensor.items[0]];
  Layout out{numbers(file, tensor.items[1]), numbers(file, tensor.items[2]), tensor.integer};
  Wide last = out.first, count = 1;
  bool empty = false;
  for (std::size_t i = 0; i < out.extents.size(); ++i) {
    const std::int64_t extent = out.extents[i];
    if (extent == 0) {
      empty = true;
      continue;
    }
    if (extent == 1) out.strides[i] = 0;  // never taken, so any value is good
    last += static_cast<Wide>(extent - 1) * out.strides[i];
    count *= extent;
    if (count > (Wide{1} << 62) || last > (Wide{1} << 62)) {
      refuse(file, "a tensor of ", out.extents.size(), " axes is too large: extent ", extent,
             " with stride ", out.strides[i]);
    }
  }
  if (empty ? out.first > storage.integer : last >= storage.integer) {
    refuse(file, "a tensor reaches element ", static_cast<std::int64_t>(last), " of storage ",
           shown_text(storage.text), ", which has ", storage.integer);
  }
  out.count = empty ? 0 : static_cast<std::int64_t>(count);
  std::int64_t dense = 1;
  for (std::size_t i = out.extents.size(); i-- > 0 && !empty;) {
    if (out.extents[i] == 1) continue;
    out.contiguous = out.contiguous && out.strides[i] == dense;
    dense *= out.extents[i];
  }
  return out;
}

void check_all(const TorchFile& file) {
  std::map<std::string, const PickleValue*> seen;
  for (const PickleValue& value : file.content.values) {
    if (value.kind == Kind::kStorage) {
      check_storage(file, value);
      const PickleValue* first = seen.emplace(value.text, &value).first->second;
      if (first->type != value.type) {
        refuse(file, "storage ", shown_text(value.text), " is ", name_of(first->type), " and ",
               name_of(value.type));
      }
    } else if (value.kind == Kind::kTensor) {
      checked_layout(file, value);
    }
  }
}

TorchFile open_zip(std::unique_ptr<ByteInput> input) {
  TorchFile file{.name = input->name(), .container = "torch zip"};
  const auto open = std::make_shared<const Open<TorchZip>>(std::move(input));
  const TorchZip& zip = open->container();
  const std::vector<std::byte> pickle = zip.pickle(kMostPickleBytes);
  const std::string metadata = zip.text(kTorchMetadataEntry, kMostMetadataBytes);
  try {
    file.content = parse_pickle(pickle);
    if (!metadata.empty()) file.metadata = parse_safetensors_header(metadata).metadata;
  } catch (const Error& error) {
    refuse(file, error.what());
  }
  if (!zip.has_checksums()) file.container += ", without checksums";
  file.big_endian = zip.big_endian();
  file.storages = open;
  check_all(file);
  return file;
}

TorchFile open_legacy(std::unique_ptr<ByteInput> input) {
  TorchFile file{.name = input->name(), .container = "torch before 1.6"};
  const auto open = std::make_shared<const Open<TorchLegacy>>(std::move(input));
  file.content = open->container().content();
  file.storages = open;
  check_all(file);
  return file;
}

TorchFile open_any(std::unique_ptr<ByteInput> input) {
  return is_torch_legacy(*input) ? open_legacy(std::move(input)) : open_zip(std::move(input));
}

void swap_bytes(std::span<std::byte> bytes, std::size_t width) {
  for (std::size_t i = 0; i + width <= bytes.size(); i += width) {
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                 bytes.begin() + static_cast<std::ptrdiff_t>(i + width));
  }
}

template <class T, class Widen>
void gather(const Layout& layout, const std::byte* storage, Widen widen, float* out) {
  const std::size_t rank = layout.extents.size();
  if (layout.contiguous) {
    storage += static_cast<std::size_t>(layout.first) * sizeof(T);
    for (std::int64_t i = 0; i < layout.count; ++i, storage += sizeof(T)) {
      T value;
      std::memcpy(&value, storage, sizeof(T));
      out[i] = widen(value);
    }
    return;
  }
  std::vector<std::int64_t> at(rank, 0);
  std::int64_t element = layout.first;
  for (std::int64_t i = 0; i < layout.count; ++i) {
    T value;
    std::memcpy(&value, storage + static_cast<std::size_t>(element) * sizeof(T), sizeof(T));
    out[i] = widen(value);
    for (std::size_t axis = rank; axis-- > 0;) {
      element += layout.strides[axis];
      if (++at[axis] < layout.extents[axis]) break;
      element -= layout.strides[axis] * layout.extents[axis];
      at[axis] = 0;
    }
  }
}

void widen_into(const Layout& layout, StorageType type, const std::byte* storage, float* out) {
  const auto same = [](auto value) { return static_cast<float>(value); };
  switch (type) {
    case StorageType::kF32:
      return gather<float>(layout, storage, same, out);
    case StorageType::kF64:
      return gather<double>(layout, storage, same, out);
    case StorageType::kF16:
      return gather<std::uint16_t>(layout, storage, widen_f16, out);
    case StorageType::kBF16:
      return gather<std::uint16_t>(layout, storage, widen_bf16, out);
    default:
      fail(ExitCode::kInternal, "torch file: read as f32 of ", name_of(type));
  }
}

}  // namespace

TorchFile read_torch_file(std::span<const std::byte> bytes, const std::string& name) {
  return open_any(std::make_unique<ByteInput>(bytes, name));
}

TorchFile read_torch_file(const std::filesystem::path& path) {
  return open_any(std::make_unique<ByteInput>(path));
}

Shape shape_of(const TorchFile& file, PickleRef tensor) {
  const auto extents = numbers(file, file.content[tensor].items[1]);
  if (extents.size() > Shape::kMaxRank) {
    refuse(file, "a tensor of ", extents.size(), " axes, at most ", Shape::kMaxRank);
  }
  return Shape(std::span<const std::int64_t>(extents));
}

StorageType type_of(const TorchFile& file, PickleRef tensor) {
  return file.content[file.content[tensor].items[0]].type;
}

std::vector<Tensor> read_tensors(const TorchFile& file, std::span<const PickleRef> tensors) {
  std::map<std::string, std::vector<std::size_t>> by_storage;
  std::vector<Layout> layouts;
  Wide wanted = 0;
  const Wide most = static_cast<Wide>(file.storages->total_bytes()) * kMostExpansion;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const PickleValue& tensor = file.content[tensors[i]];
    layouts.push_back(checked_layout(file, tensor));
    wanted += static_cast<Wide>(layouts.back().count) * static_cast<Wide>(sizeof(float));
    by_storage[file.content[tensor.items[0]].text].push_back(i);
  }
  if (wanted > most) {
    refuse(file, "its tensors repeat each other's values and are over ", kMostExpansion,
           " times as large as the file");
  }
  std::vector<Tensor> out(tensors.size());
  std::vector<std::byte> bytes;
  for (const auto& [key, members] : by_storage) {
    const StorageType type = type_of(file, tensors[members.front()]);
    bytes.resize(static_cast<std::size_t>(file.storages->bytes(key)));
    file.storages->read(key, bytes);
    if (file.big_endian) swap_bytes(bytes, size_of(type));
    for (const std::size_t i : members) {
      out[i] = Tensor::empty(shape_of(file, tensors[i]));
      widen_into(layouts[i], type, bytes.data(), out[i].data<float>());
    }
  }
  return out;
}

}  // namespace onpa::io
