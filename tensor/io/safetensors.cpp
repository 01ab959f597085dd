#include "tensor/io/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tensor/io/half_types.h"
#include "tensor/io/safetensors_header.h"

namespace onpa::io {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kLengthBytes = 8;
// Read at once, so that who taps it finds it in the cache.
constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 18;

struct FileType {
  const char* name;
  const char* shown;
  DType dtype;          // in memory
  std::uint64_t bytes;  // of one element in the file
};
constexpr FileType kFileTypes[] = {
    {"F64", "f64", DType::kF64, 8}, {"I64", "i64", DType::kI64, 8},
    {"F32", "f32", DType::kF32, 4}, {"I32", "i32", DType::kI32, 4},
    {"F16", "f16", DType::kF32, 2}, {"BF16", "bf16", DType::kF32, 2},
};

[[noreturn]] void fail_bad(const std::string& path, const std::string& reason) {
  fail(ExitCode::kBadCheckpoint, path, ": ", reason);
}

class InputFile {
 public:
  InputFile(const std::filesystem::path& path, const FileWriter::Tap& tap)
      : path_(path.string()), tap_(tap) {
    // Without O_NONBLOCK a named pipe would wait here for its writer.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) {
      fail(ExitCode::kInputMissing, "cannot open ", path_, ": ", std::strerror(errno));
    }
    struct stat status {};
    const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
    if (!regular) {
      ::close(descriptor_);
      fail_bad(path_, "not a regular file");
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

  void read(void* out, std::uint64_t bytes, std::uint64_t offset) const {
    char* next = static_cast<char*>(out);
    while (bytes > 0) {
      const ssize_t done =
          ::pread(descriptor_, next, std::min(bytes, tap_ ? kReadBytes : kMostBytes),
                  static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail(ExitCode::kIo, "cannot read ", path_, ": ", std::strerror(errno));
      if (done == 0) fail_bad(path_, "the file became shorter while it was read");
      if (tap_) tap_(next, static_cast<std::size_t>(done));
      next += done;
      offset += static_cast<std::uint64_t>(done);
      bytes -= static_cast<std::uint64_t>(done);
    }
  }

 private:
  static constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;

  std::string path_;
  const FileWriter::Tap& tap_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

const FileType& file_type(const std::string& path, const SafetensorsEntry& entry) {
  for (const FileType& type : kFileTypes) {
    if (entry.dtype == type.name) return type;
  }
  fail_bad(path, "tensor \"" + entry.name + "\": dtype \"" + entry.dtype +
                     "\", want F64, F32, F16, BF16, I64 or I32");
}

// Checks one entry's shape against its byte range, without overflow; returns the shape.
Shape checked_shape(const std::string& path, const SafetensorsEntry& entry, const FileType& type,
                    std::uint64_t data_bytes) {
  const auto refuse = [&](const auto&... parts) {
    fail_bad(path, detail::concat("tensor \"", entry.name, "\": ", parts...));
  };
  if (entry.shape.size() > Shape::kMaxRank) {
    refuse("rank ", entry.shape.size(), ", at most ", Shape::kMaxRank);
  }
  if (entry.end < entry.begin) refuse("data ends at ", entry.end, ", before ", entry.begin);
  if (entry.end > data_bytes) {
    refuse("data ends at ", entry.end, ", but the file holds ", data_bytes,
           " bytes of data: cut short, download or copy it again");
  }
  const Shape shape{std::span<const std::int64_t>(entry.shape)};
  std::uint64_t bytes = type.bytes;
  for (const std::int64_t extent : entry.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) {
      refuse("shape ", shape, " overflows");
    }
  }
  if (bytes != entry.end - entry.begin) {
    refuse("shape ", shape, " of ", entry.dtype, " needs ", bytes, " bytes, got ",
           entry.end - entry.begin);
  }
  return shape;
}

// The ranges, in order, must cover the data exactly.
void check_coverage(const std::string& path, const std::vector<SafetensorsEntry>& entries,
                    std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != covered) {
      fail_bad(path, detail::concat("tensor \"", entry.name, "\": data begins at ", entry.begin,
                                    entry.begin < covered ? ", inside the tensor before, which"
                                                          : ", leaving a hole after the one that",
                                    " ends at ", covered));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    fail_bad(path, detail::concat(data_bytes - covered, " bytes after the last tensor"));
  }
}

Tensor read_tensor(const InputFile& file, const FileType& type, const Shape& shape,
                   std::uint64_t offset) {
  Tensor out = Tensor::empty(shape, type.dtype);
  if (type.bytes == size_of(type.dtype)) {
    file.read(out.bytes(), out.byte_count(), offset);
    return out;
  }
  const bool bf16 = std::strcmp(type.name, "BF16") == 0;
  std::vector<std::uint16_t> narrow(static_cast<std::size_t>(out.numel()));
  file.read(narrow.data(), narrow.size() * sizeof(std::uint16_t), offset);
  std::transform(narrow.begin(), narrow.end(), out.data<float>(), bf16 ? widen_bf16 : widen_f16);
  return out;
}

const char* type_name(const std::string& name, DType dtype) {
  for (const FileType& type : kFileTypes) {
    if (type.dtype == dtype && type.bytes == size_of(dtype)) return type.name;
  }
  fail(ExitCode::kInternal, "safetensors: tensor \"", name, "\" is ", name_of(dtype),
       ", want f32, f64, i32 or i64");
}

struct Plan {
  std::vector<const Tensor*> order;  // as the data lies in the file
  std::string header;
  std::uint64_t data_bytes = 0;
};

Plan plan_file(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<std::string, Tensor>*> order;
  for (const auto& named : tensors) {
    ONPA_CHECK(named.second.defined() && named.second.device() == DeviceKind::kCpu,
               "safetensors: tensor \"", named.first, "\" is undefined or not on the CPU");
    order.push_back(&named);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return size_of(a->second.dtype()) > size_of(b->second.dtype());
  });
  Plan plan;
  SafetensorsHeader header{.entries = {}, .metadata = metadata};
  for (const auto* named : order) {
    const auto& [name, tensor] = *named;
    const auto extents = tensor.shape().extents();
    const std::uint64_t end = plan.data_bytes + tensor.byte_count();
    header.entries.push_back({.name = name,
                              .dtype = type_name(name, tensor.dtype()),
                              .shape = {extents.begin(), extents.end()},
                              .begin = plan.data_bytes,
                              .end = end});
    plan.order.push_back(&tensor);
    plan.data_bytes = end;
  }
  plan.header = format_safetensors_header(header);
  ONPA_CHECK(plan.header.size() <= kMaxHeaderBytes, "safetensors: header of ", plan.header.size(),
             " bytes, at most ", kMaxHeaderBytes);
  return plan;
}

}  // namespace

Tensor SafetensorsFile::find(const std::string& name) const {
  for (const auto& [key, tensor] : tensors) {
    if (key == name) return tensor;
  }
  return {};
}

SafetensorsFile read_safetensors(const std::filesystem::path& path, const FileWriter::Tap& tap) {
  const InputFile file(path, tap);
  if (file.size() < kLengthBytes + 2) {
    fail_bad(file.path(), detail::concat("not a safetensors file: only ", file.size(), " bytes"));
  }
  std::uint64_t header_bytes = 0;
  file.read(&header_bytes, kLengthBytes, 0);
  if (header_bytes > kMaxHeaderBytes) {
    fail_bad(file.path(), detail::concat("not a safetensors file: header of ", header_bytes,
                                         " bytes, at most ", kMaxHeaderBytes));
  }
  if (header_bytes > file.size() - kLengthBytes) {
    fail_bad(file.path(), detail::concat("not a safetensors file, or cut short: header of ",
                                         header_bytes, " bytes in a file of ", file.size(),
                                         " bytes; download or copy it again"));
  }
  std::string text(header_bytes, '\0');
  file.read(text.data(), header_bytes, kLengthBytes);
  SafetensorsHeader header;
  try {
    header = parse_safetensors_header(text);
  } catch (const Error& error) {
    fail_bad(file.path(), error.what());
  }
  const std::uint64_t data_start = kLengthBytes + header_bytes;
  const std::uint64_t data_bytes = file.size() - data_start;
  std::stable_sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::vector<Shape> shapes;
  for (const SafetensorsEntry& entry : header.entries) {
    shapes.push_back(checked_shape(file.path(), entry, file_type(file.path(), entry), data_bytes));
  }
  check_coverage(file.path(), header.entries, data_bytes);

  SafetensorsFile out;
  out.metadata = std::move(header.metadata);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const SafetensorsEntry& entry = header.entries[i];
    const FileType& type = file_type(file.path(), entry);
    out.tensors.emplace_back(entry.name,
                             read_tensor(file, type, shapes[i], data_start + entry.begin));
    out.types.emplace_back(type.shown);
  }
  return out;
}

void write_safetensors(FileWriter& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const Plan plan = plan_file(tensors, metadata);
  const std::uint64_t header_bytes = plan.header.size();
  std::string start(reinterpret_cast<const char*>(&header_bytes), kLengthBytes);
  file.write(start + plan.header);
  for (const Tensor* tensor : plan.order) file.write(tensor->bytes(), tensor->byte_count());
}

std::uint64_t safetensors_bytes(const NamedTensors& tensors,
                                const std::map<std::string, std::string>& metadata) {
  const Plan plan = plan_file(tensors, metadata);
  return kLengthBytes + plan.header.size() + plan.data_bytes;
}

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_file_atomic(path, [&](FileWriter& file) { write_safetensors(file, tensors, metadata); });
}

}  // namespace onpa::io
