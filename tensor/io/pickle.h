// Python pickles as plain data: an interpreter of the few opcodes and globals that files of weights
// are made of. Nothing is imported, looked up or called; what is not on its lists is an error.
// Source: Python's pickletools (opcodes of protocols 2 to 5) and what torch.save writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace onpa::io {

/// Element type of a torch storage.
enum class StorageType : std::uint8_t {
  kF32,
  kF64,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kUntyped,  // bytes; no tensor is made of them
};
std::size_t size_of(StorageType type);
const char* name_of(StorageType type);  // "f32", "i64", "bool", "untyped"
/// f32, f64, f16 or bf16.
bool is_floating(StorageType type);

/// Index of a value in Pickle::values.
using PickleRef = std::uint32_t;

struct PickleValue {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,     // integer
    kInt,      // integer
    kBigInt,   // text: its bytes, least significant first, two's complement
    kFloat,    // real
    kString,   // text, UTF-8 as far as the file is honest
    kBytes,    // text
    kTuple,    // items
    kList,     // items
    kSet,      // items
    kDict,     // items: key, value, key, value, ...
    kGlobal,   // text: "module.name"
    kStorage,  // text: key; type; integer: elements
    kTensor,   // items: storage, shape, strides (both tuples of kInt >= 0); integer: first element
    kOpaque,   // an object that is of no use here; text: "module.name" of what it is
  };
  Kind kind = Kind::kNone;
  StorageType type = StorageType::kUntyped;
  std::int64_t integer = 0;
  double real = 0;
  std::string text = {};
  std::vector<PickleRef> items = {};
};

/// What a pickle holds. Values refer to each other by index, so what a file shares is not copied,
/// and one that nests deep, or contains itself, is no danger to who holds it.
struct Pickle {
  std::vector<PickleValue> values;
  PickleRef root = 0;
  std::size_t bytes_used = 0;  // up to the opcode STOP and with it

  const PickleValue& operator[](PickleRef ref) const { return values[ref]; }
  const PickleValue& top() const { return values[root]; }
  /// The value under a string key of a dict; null for none and for what is no dict.
  const PickleValue* find(const PickleValue& dict, const std::string& key) const;
};

/// What a file may ask for; memory stays under about 100 bytes for each value.
struct PickleLimits {
  std::size_t values = 400'000;
  std::size_t stack = 200'000;
  std::size_t memo = 400'000;
  std::size_t depth = 200;                  // of open marks
  std::size_t references = 2'000'000;       // items of all containers together
  std::size_t text = std::size_t{1} << 20;  // bytes of one string
};

/// Interprets the pickle at the start of `bytes`. Allowed are: containers, strings, numbers, None;
/// collections.OrderedDict, torch.Size, tensors and parameters over torch's storages, names of
/// dtypes. Objects of the kinds that training scripts put beside weights (argparse.Namespace,
/// settings and callbacks of Lightning, NumPy scalars, ...) become kOpaque, with all that belongs
/// to them dropped. Throws Error (kBadCheckpoint) with the opcode or global and its offset for
/// everything else, for what is cut short or malformed, and beyond `limits`.
Pickle parse_pickle(std::span<const std::byte> bytes, const PickleLimits& limits = {});

/// "a dict of 3 entries", "the string 'abc'", "a tensor": for messages.
std::string describe(const PickleValue& value);

/// Text from a file as it can be shown: cut at 80 bytes, "?" for what is not printable ASCII.
std::string shown_text(const std::string& text);

}  // namespace onpa::io
