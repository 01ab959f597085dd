#include "tensor/io/pickle_names.h"

#include <algorithm>

#include "kernels/error.h"

namespace onpa::io {
namespace {

struct TypeFacts {
  const char* name;
  std::size_t bytes;
};
constexpr TypeFacts kTypes[] = {  // in the order of StorageType
    {"f32", 4}, {"f64", 8}, {"f16", 2}, {"bf16", 2}, {"i64", 8},    {"i32", 4},
    {"i16", 2}, {"i8", 1},  {"u8", 1},  {"bool", 1}, {"untyped", 1}};

struct StorageName {
  std::string_view global;
  StorageType type;
};
constexpr StorageName kStorages[] = {
    {"torch.FloatStorage", StorageType::kF32},
    {"torch.DoubleStorage", StorageType::kF64},
    {"torch.HalfStorage", StorageType::kF16},
    {"torch.BFloat16Storage", StorageType::kBF16},
    {"torch.LongStorage", StorageType::kI64},
    {"torch.IntStorage", StorageType::kI32},
    {"torch.ShortStorage", StorageType::kI16},
    {"torch.CharStorage", StorageType::kI8},
    {"torch.ByteStorage", StorageType::kU8},
    {"torch.BoolStorage", StorageType::kBool},
    {"torch.storage.UntypedStorage", StorageType::kUntyped},
};

// Globals that stand for plain values.
constexpr std::string_view kNames[] = {
    "torch.float32", "torch.float64", "torch.float16", "torch.bfloat16", "torch.float",
    "torch.double",  "torch.half",    "torch.int64",   "torch.int32",    "torch.int16",
    "torch.int8",    "torch.uint8",   "torch.bool",    "torch.long",     "torch.int",
    "torch.short",   "torch.strided",
};

// What training scripts and frameworks put beside weights. Objects of these are passed over.
constexpr std::string_view kInert[] = {
    "argparse.Namespace",
    "torch.device",
    "collections.defaultdict",
    "collections.deque",
    "collections.Counter",
    "builtins.set",
    "builtins.frozenset",
    "builtins.dict",
    "builtins.list",
    "__builtin__.set",
    "__builtin__.frozenset",
    "__builtin__.dict",
    "__builtin__.list",
    "_codecs.encode",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
};
constexpr std::string_view kInertFamilies[] = {
    "pytorch_lightning.", "lightning.", "lightning_fabric.", "lightning_utilities.", "ba3l."};

struct OpcodeName {
  unsigned char code;
  const char* name;
};
// All that Python knows: a refusal can then name what it refuses.
constexpr OpcodeName kOpcodes[] = {
    {'(', "MARK"},
    {'.', "STOP"},
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'J', "BININT"},
    {'K', "BININT1"},
    {'L', "LONG"},
    {'M', "BININT2"},
    {'N', "NONE"},
    {'P', "PERSID"},
    {'Q', "BINPERSID"},
    {'R', "REDUCE"},
    {'S', "STRING"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'V', "UNICODE"},
    {'X', "BINUNICODE"},
    {'a', "APPEND"},
    {'b', "BUILD"},
    {'c', "GLOBAL"},
    {'d', "DICT"},
    {'}', "EMPTY_DICT"},
    {'e', "APPENDS"},
    {'g', "GET"},
    {'h', "BINGET"},
    {'i', "INST"},
    {'j', "LONG_BINGET"},
    {'l', "LIST"},
    {']', "EMPTY_LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
    {'q', "BINPUT"},
    {'r', "LONG_BINPUT"},
    {'s', "SETITEM"},
    {'t', "TUPLE"},
    {')', "EMPTY_TUPLE"},
    {'u', "SETITEMS"},
    {'G', "BINFLOAT"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {0x80, "PROTO"},
    {0x81, "NEWOBJ"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x85, "TUPLE1"},
    {0x86, "TUPLE2"},
    {0x87, "TUPLE3"},
    {0x88, "NEWTRUE"},
    {0x89, "NEWFALSE"},
    {0x8a, "LONG1"},
    {0x8b, "LONG4"},
    {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"},
    {0x8e, "BINBYTES8"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"},
    {0x94, "MEMOIZE"},
    {0x95, "FRAME"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
};

}  // namespace

std::optional<StorageType> storage_named(std::string_view global) {
  for (const StorageName& storage : kStorages) {
    if (storage.global == global) return storage.type;
  }
  return {};
}

bool is_inert(std::string_view global) {
  if (std::find(std::begin(kInert), std::end(kInert), global) != std::end(kInert)) return true;
  return std::any_of(std::begin(kInertFamilies), std::end(kInertFamilies),
                     [&](std::string_view family) { return global.starts_with(family); });
}

bool is_allowed(std::string_view global) {
  return global == kOrderedDict || global == kTorchSize || global == kRebuildTensor ||
         global == kRebuildParameter || storage_named(global).has_value() ||
         std::find(std::begin(kNames), std::end(kNames), global) != std::end(kNames) ||
         is_inert(global);
}

std::string opcode_name(unsigned char code) {
  for (const OpcodeName& opcode : kOpcodes) {
    if (opcode.code == code) return opcode.name;
  }
  return "number " + std::to_string(code);
}

std::size_t size_of(StorageType type) {
  return kTypes[static_cast<std::size_t>(type)].bytes;
}

const char* name_of(StorageType type) {
  return kTypes[static_cast<std::size_t>(type)].name;
}

bool is_floating(StorageType type) {
  return type == StorageType::kF32 || type == StorageType::kF64 || type == StorageType::kF16 ||
         type == StorageType::kBF16;
}

std::string describe(const PickleValue& value) {
  using Kind = PickleValue::Kind;
  const std::size_t count = value.items.size();
  switch (value.kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.integer ? "True" : "False";
    case Kind::kInt:
      return detail::concat("the number ", value.integer);
    case Kind::kFloat:
      return detail::concat("the number ", value.real);
    case Kind::kString:
      return "the string '" + shown_text(value.text) + "'";
    case Kind::kTuple:
      return detail::concat("a tuple of ", count);
    case Kind::kList:
      return detail::concat("a list of ", count);
    case Kind::kDict:
      return detail::concat("a dict of ", count / 2);
    case Kind::kGlobal:
      return "the name " + shown_text(value.text);
    case Kind::kOpaque:
      return "an object of " + shown_text(value.text);
    case Kind::kBigInt:
      return "a long number";
    case Kind::kBytes:
      return "bytes";
    case Kind::kSet:
      return "a set";
    case Kind::kStorage:
      return "a storage";
    case Kind::kTensor:
      return "a tensor";
  }
  return "?";
}

std::string shown_text(const std::string& text) {
  constexpr std::size_t kMost = 80;
  std::string out = text.substr(0, kMost);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text.size() > kMost ? out + "..." : out;
}

}  // namespace onpa::io
