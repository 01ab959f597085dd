#include "tensor/io/npy.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/io/fault.h"
#include "tensor/io/file.h"

namespace onpa::io {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kMaxHeaderBytes = 65536;
constexpr std::size_t kAlignment = 64;  // of the data in the file, as NumPy writes it

struct NpyType {
  const char* name;
  DType dtype;
};
constexpr NpyType kTypes[] = {
    {"<f4", DType::kF32}, {"<f8", DType::kF64}, {"<i4", DType::kI32}, {"<i8", DType::kI64}};

struct NpyHeader {
  std::optional<DType> dtype;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;
};

// Reads the header's Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  NpyHeader parse() {
    NpyHeader header;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !header.dtype) {
        header.dtype = parse_type(quoted());
      } else if (key == "fortran_order" && !header.fortran_order) {
        header.fortran_order = boolean();
      } else if (key == "shape" && !header.shape) {
        header.shape = tuple();
      } else {
        refuse("unknown or repeated key '" + key + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (at_ != text_.size()) refuse("text after the dictionary");
    if (!header.dtype || !header.fortran_order || !header.shape) {
      refuse("descr, fortran_order or shape is missing");
    }
    return header;
  }

  [[noreturn]] void refuse(const std::string& reason) const {
    fail(ExitCode::kBadData, path_, ": npy header: ", reason);
  }

 private:
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) refuse(std::string("'") + c + "' expected at byte " + std::to_string(at_));
  }
  std::string quoted() {
    skip_spaces();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') refuse("text expected at byte " + std::to_string(at_));
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) refuse("text without end");
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }
  bool boolean() {
    skip_spaces();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    refuse("True or False expected at byte " + std::to_string(at_));
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> extents;
    expect('(');
    while (!accept(')')) {
      extents.push_back(number());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return extents;
  }
  std::int64_t number() {
    skip_spaces();
    const std::size_t start = at_;
    std::int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, text_[at_] - '0', &value)) {
        refuse("an extent is too large");
      }
    }
    if (at_ == start) refuse("a number expected at byte " + std::to_string(at_));
    return value;
  }
  DType parse_type(const std::string& name) const {
    for (const NpyType& type : kTypes) {
      if (name == type.name) return type.dtype;
    }
    refuse("type '" + name + "', want <f4, <f8, <i4 or <i8");
  }

  std::string_view text_;
  const std::string& path_;
  std::size_t at_ = 0;
};

using FileHandle = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

void read_exactly(const FileHandle& file, void* out, std::size_t bytes, const std::string& path) {
  if (bytes > 0 && std::fread(out, 1, bytes, file.get()) != bytes) {
    fail(ExitCode::kBadData, path, ": npy file is cut short");
  }
}

std::string read_header_text(const FileHandle& file, const std::string& path) {
  unsigned char start[8];
  read_exactly(file, start, sizeof start, path);
  const int major = start[6];
  if (std::memcmp(start, kMagic.data(), kMagic.size()) != 0) {
    fail(ExitCode::kBadData, path, ": not an npy file");
  }
  if (major < 1 || major > 3) fail(ExitCode::kBadData, path, ": npy version ", major);
  unsigned char length[4] = {};
  read_exactly(file, length, major == 1 ? 2 : 4, path);
  const std::uint64_t bytes = length[0] | std::uint64_t{length[1]} << 8 |
                              std::uint64_t{length[2]} << 16 | std::uint64_t{length[3]} << 24;
  if (bytes > kMaxHeaderBytes) fail(ExitCode::kBadData, path, ": npy header of ", bytes, " bytes");
  std::string text(bytes, '\0');
  read_exactly(file, text.data(), bytes, path);
  return text;
}

// Magic, version and dictionary, padded so that the data are aligned and to `least` bytes.
std::string npy_header(const char* type, std::span<const std::int64_t> extents,
                       std::size_t least = 0) {
  std::string text = std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': (";
  for (const std::int64_t extent : extents) text += std::to_string(extent) + ", ";
  // A tuple of one keeps its comma; the others are written as Python prints them.
  if (extents.size() > 1) text.resize(text.size() - 2);
  if (extents.size() == 1) text.pop_back();
  text += "), }";
  const std::size_t start = kMagic.size() + 4;
  const std::size_t bytes = std::max(start + text.size() + 1, least);
  const std::size_t total = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  text.append(total - start - text.size() - 1, ' ').push_back('\n');
  std::string header(kMagic);
  header +=
      {'\x01', '\x00', static_cast<char>(text.size() & 255), static_cast<char>(text.size() >> 8)};
  return header + text;
}

}  // namespace

StagedFile stage_npy(const std::filesystem::path& path, const Tensor& tensor) {
  const char* type = nullptr;
  for (const NpyType& t : kTypes) {
    if (t.dtype == tensor.dtype()) type = t.name;
  }
  ONPA_CHECK(tensor.defined() && type != nullptr, "npy: tensor of ", name_of(tensor.dtype()),
             ", want f32, f64, i32 or i64");
  const FaultScope faults(FileKind::kNpy);
  return {path, [&](FileWriter& file) {
            file.write(npy_header(type, tensor.shape().extents()));
            file.write(tensor.bytes(), tensor.byte_count());
          }};
}

void write_npy(const std::filesystem::path& path, const Tensor& tensor) {
  const FaultScope faults(FileKind::kNpy);
  stage_npy(path, tensor).commit();
}

StagedFile stage_npy_rows(const std::filesystem::path& path, std::int64_t width,
                          const std::function<void(const NpyRowSink&)>& fill, std::int64_t& rows) {
  constexpr std::size_t kHeaderBytes = 128;  // room for any number of rows
  const FaultScope faults(FileKind::kNpy);
  rows = 0;
  return {path, [&](FileWriter& file) {
            const auto header = [&] {
              const std::int64_t extents[] = {rows, width};
              return npy_header("<f4", extents, kHeaderBytes);
            };
            file.write(header());
            std::vector<float> block;
            const auto flush = [&] {
              file.write(block.data(), block.size() * sizeof(float));
              block.clear();
            };
            fill([&](std::span<const float> row) {
              ONPA_CHECK(std::ssize(row) == width, "npy: a row of ", row.size(), ", want ", width);
              constexpr std::size_t kBlock = 1 << 16;
              block.insert(block.end(), row.begin(), row.end());
              ++rows;
              if (block.size() >= kBlock) flush();
            });
            flush();
            file.rewrite_start(header());
          }};
}

std::int64_t write_npy_rows(const std::filesystem::path& path, std::int64_t width,
                            const std::function<void(const NpyRowSink&)>& fill) {
  std::int64_t rows = 0;
  const FaultScope faults(FileKind::kNpy);
  stage_npy_rows(path, width, fill, rows).commit();
  return rows;
}

Tensor read_npy(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    fail(ExitCode::kBadData, path.string(), ": not a regular file");
  }
  const FileHandle file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) {
    fail(ExitCode::kInputMissing, "cannot open ", path.string(), ": ", std::strerror(errno));
  }
  const std::string name = path.string();
  const std::string text = read_header_text(file, name);
  HeaderParser parser(text, name);
  const NpyHeader header = parser.parse();
  if (header.shape->size() > Shape::kMaxRank) {
    parser.refuse("rank " + std::to_string(header.shape->size()));
  }
  if (*header.fortran_order && header.shape->size() > 1) {
    parser.refuse("Fortran order, want C order");
  }
  const std::uint64_t file_bytes = std::filesystem::file_size(path);
  const auto data_start = static_cast<std::uint64_t>(std::ftell(file.get()));
  const std::uint64_t data_bytes = file_bytes < data_start ? 0 : file_bytes - data_start;
  std::uint64_t bytes = size_of(*header.dtype);
  for (const std::int64_t extent : *header.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) {
      parser.refuse("the shape overflows");
    }
  }
  if (bytes != data_bytes) {
    fail(ExitCode::kBadData, name, ": ", data_bytes, " bytes of data, want ", bytes);
  }
  Tensor out = Tensor::empty(Shape{std::span<const std::int64_t>(*header.shape)}, *header.dtype);
  read_exactly(file, out.bytes(), out.byte_count(), name);
  return out;
}

}  // namespace onpa::io
