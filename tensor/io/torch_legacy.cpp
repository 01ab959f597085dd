#include "tensor/io/torch_legacy.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace onpa::io {
namespace {

using Kind = PickleValue::Kind;

// A pickle of the number 0x1950a86a20f9469cfc6c.
constexpr std::string_view kMagic =
    std::string_view("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
constexpr std::int64_t kProtocol = 1001;
constexpr std::uint64_t kMostPickleBytes = std::uint64_t{32} << 20;
constexpr std::uint64_t kCountBytes = 8;

template <class... Parts>
[[noreturn]] void refuse(const ByteInput& input, const Parts&... parts) {
  fail(ExitCode::kBadCheckpoint, input.name(), ": ", detail::concat(parts...));
}

// The pickles at the start of a file.
class Pickles {
 public:
  explicit Pickles(const ByteInput& input) : input_(input) {
    bytes_.resize(static_cast<std::size_t>(std::min(input.size(), kMostPickleBytes)));
    input.read(bytes_, 0);
  }
  Pickle next() {
    try {
      Pickle out = parse_pickle(std::span(bytes_).subspan(at_));
      at_ += out.bytes_used;
      return out;
    } catch (const Error& error) {
      refuse(input_, "from byte ", at_, ", ", error.what());
    }
  }
  std::uint64_t at() const { return at_; }

 private:
  const ByteInput& input_;
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

// Bytes of an element of each storage.
std::map<std::string, std::size_t> widths_of(const Pickle& content) {
  std::map<std::string, std::size_t> out;
  for (const PickleValue& value : content.values) {
    if (value.kind == Kind::kStorage) out.emplace(value.text, size_of(value.type));
  }
  return out;
}

}  // namespace

bool is_torch_legacy(const ByteInput& input) {
  return input.head(kMagic.size()) == kMagic;
}

TorchLegacy::TorchLegacy(const ByteInput& input) : input_(input) {
  Pickles pickles(input);
  pickles.next();  // the magic number
  if (const Pickle protocol = pickles.next();
      protocol.top().kind != Kind::kInt || protocol.top().integer != kProtocol) {
    refuse(input, "version ", describe(protocol.top()), ", want ", kProtocol);
  }
  const Pickle system = pickles.next();
  const PickleValue* little = system.find(system.top(), "little_endian");
  if (little == nullptr || little->kind != Kind::kBool || little->integer == 0) {
    refuse(input, "not written on a little-endian machine; load it in Python and save it again");
  }
  content_ = pickles.next();
  const Pickle keys = pickles.next();
  if (keys.top().kind != Kind::kList) {
    refuse(input, describe(keys.top()), " in place of a list of storages");
  }
  const auto widths = widths_of(content_);
  std::uint64_t at = pickles.at();
  for (const PickleRef item : keys.top().items) {
    const PickleValue& key = keys[item];
    const auto width = widths.find(key.text);
    if (key.kind != Kind::kString || width == widths.end()) {
      refuse(input, "a storage is called ", describe(key), ", which nothing refers to");
    }
    std::uint64_t count = 0;
    if (input.size() - at < kCountBytes) {
      refuse(input, "cut short before storage ", shown_text(key.text),
             "; download or copy the file again");
    }
    input.read(std::as_writable_bytes(std::span(&count, 1)), at);
    at += kCountBytes;
    if (count > (input.size() - at) / width->second) {
      refuse(input, "cut short: storage ", shown_text(key.text), " has ", count,
             " elements, and the file ", input.size() - at,
             " bytes more; download or copy it again");
    }
    const Range range{at, count * width->second};
    if (!storages_.emplace(key.text, range).second) {
      refuse(input, "two storages are called ", shown_text(key.text));
    }
    at += range.bytes;
    total_ += range.bytes;
  }
}

std::int64_t TorchLegacy::bytes(const std::string& key) const {
  const auto found = storages_.find(key);
  return found == storages_.end() ? -1 : static_cast<std::int64_t>(found->second.bytes);
}

void TorchLegacy::read(const std::string& key, std::span<std::byte> out) const {
  const Range& range = storages_.at(key);
  if (out.size() != range.bytes) fail(ExitCode::kInternal, "storage read in part");
  input_.read(out, range.offset);
}

}  // namespace onpa::io
