#include "tensor/io/safetensors_header.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "kernels/error.h"

namespace onpa::io {
namespace {

using Json = nlohmann::json;

// Walks the header's three fixed levels: {name: {"dtype": s, "shape": [n...], "data_offsets":
// [n, n]}, "__metadata__": {s: s}}. Anything else is refused where it appears, so neither depth nor
// memory can run away.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  SafetensorsHeader take() { return std::move(header_); }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = in_metadata_ ? Place::kMetadata : Place::kTensor;
    } else {
      refuse("an object is nested too deep");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (int i = 0; i < kFieldCount; ++i) {
        if (!seen_[i]) refuse("no \"", kFieldNames[i], '"');
      }
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool key(string_t& text) override {
    if (place_ == Place::kTop) {
      if (!names_.insert(text).second) {
        fail(ExitCode::kBadCheckpoint, "two entries named \"", text, '"');
      }
      in_metadata_ = text == kMetadataName;
      field_ = -1;
      std::fill(std::begin(seen_), std::end(seen_), false);
      if (!in_metadata_) header_.entries.push_back({.name = text, .dtype = {}, .shape = {}});
    } else if (place_ == Place::kMetadata) {
      metadata_key_ = text;
      if (!header_.metadata.emplace(text, "").second) refuse("two keys \"", text, '"');
    } else {
      field_ = field_index(text);
      if (field_ < 0) refuse("unknown key \"", text, '"');
      if (seen_[field_]) refuse("two keys \"", text, '"');
      seen_[field_] = true;
    }
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[metadata_key_] = text;
    } else if (place_ == Place::kTensor && field_ == kDtype) {
      header_.entries.back().dtype = text;
    } else {
      refuse("a string where none belongs");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == kDtype) refuse("an array where none belongs");
    place_ = Place::kNumbers;
    offset_count_ = 0;
    return true;
  }

  bool end_array() override {
    if (field_ == kOffsets && offset_count_ != 2) refuse("data_offsets is not a pair");
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kNumbers) refuse("a number where none belongs");
    SafetensorsEntry& entry = header_.entries.back();
    if (field_ == kShape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        refuse("extent ", value, " is too large");
      }
      if (entry.shape.size() == kMaxListedRank) refuse("rank above ", kMaxListedRank);
      entry.shape.push_back(static_cast<std::int64_t>(value));
    } else {
      if (offset_count_ == 2) refuse("data_offsets is not a pair");
      (offset_count_++ == 0 ? entry.begin : entry.end) = value;
    }
    return true;
  }

  bool null() override { refuse("null where a value belongs"); }
  bool boolean(bool) override { refuse("true or false where none belongs"); }
  bool number_integer(number_integer_t value) override { refuse("negative number ", value); }
  bool number_float(number_float_t, const string_t& text) override {
    refuse("number ", text, " is not a 64-bit integer");
  }
  bool binary(binary_t&) override { refuse("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    fail(ExitCode::kBadCheckpoint, "header is not JSON at byte ", position);
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kNumbers, kEnd };
  enum Field { kDtype, kShape, kOffsets, kFieldCount };
  static constexpr const char* kFieldNames[kFieldCount] = {"dtype", "shape", "data_offsets"};
  static constexpr const char* kMetadataName = "__metadata__";
  static constexpr std::size_t kMaxListedRank = 64;

  static int field_index(const std::string& text) {
    for (int i = 0; i < kFieldCount; ++i) {
      if (text == kFieldNames[i]) return i;
    }
    return -1;
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    if (place_ == Place::kStart) fail(ExitCode::kBadCheckpoint, "header is not an object");
    const bool named = !in_metadata_ && !header_.entries.empty();
    fail(ExitCode::kBadCheckpoint,
         named ? "tensor \"" + header_.entries.back().name + '"'
               : std::string(in_metadata_ ? "metadata" : "header"),
         ": ", parts...);
  }

  SafetensorsHeader header_;
  std::unordered_set<std::string> names_;
  Place place_ = Place::kStart;
  bool in_metadata_ = false;
  int field_ = -1;
  bool seen_[kFieldCount] = {};
  int offset_count_ = 0;
  std::string metadata_key_;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text) {
  if (text.empty() || text.front() != '{') {
    fail(ExitCode::kBadCheckpoint, "header does not start with '{'");
  }
  HeaderReader reader;
  Json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take();
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!header.metadata.empty()) json["__metadata__"] = header.metadata;
  std::unordered_set<std::string> names;
  for (const SafetensorsEntry& entry : header.entries) {
    ONPA_CHECK(entry.name != "__metadata__" && names.insert(entry.name).second,
               "safetensors: name \"", entry.name, "\" is reserved or used twice");
    json.push_back({entry.name,
                    {{"dtype", entry.dtype},
                     {"shape", entry.shape},
                     {"data_offsets", {entry.begin, entry.end}}}});
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const Json::exception&) {
    fail(ExitCode::kInternal, "safetensors: a name or metadata value is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace onpa::io
