#include "tensor/io/pickle.h"

#include <bit>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "kernels/error.h"
#include "tensor/io/pickle_names.h"

namespace onpa::io {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t kMostAxes = 64;  // as in torch
constexpr const char* kCutShort = "; a file that was cut short is to be downloaded or copied again";

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, const PickleLimits& limits)
      : bytes_(bytes), limits_(limits) {}

  Pickle run() {
    while (step()) {
    }
    if (stack_.size() != 1 || !marks_.empty()) {
      refuse("leaves ", stack_.size(), " values and ", marks_.size(), " marks, want one value");
    }
    out_.root = stack_.back();
    out_.bytes_used = at_;
    return std::move(out_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::kBadCheckpoint, "pickle: opcode ", opcode_name(code_), " at byte ", op_at_, ": ",
         detail::concat(parts...));
  }

  // --- bytes ---
  std::span<const std::byte> take(std::uint64_t count) {
    if (count > bytes_.size() - at_) {
      refuse("wants ", count, " bytes more, but only ", bytes_.size() - at_, " are left",
             kCutShort);
    }
    const auto out = bytes_.subspan(at_, static_cast<std::size_t>(count));
    at_ += static_cast<std::size_t>(count);
    return out;
  }
  // Little-endian, of `width` bytes.
  std::uint64_t unsigned_number(std::size_t width) {
    std::uint64_t value = 0;
    std::memcpy(&value, take(width).data(), width);
    return value;
  }
  std::string text(std::uint64_t count) {
    if (count > limits_.text) refuse("a string of ", count, " bytes, at most ", limits_.text);
    const auto part = take(count);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::string line() {
    std::string out;
    for (;;) {
      const char c = static_cast<char>(take(1)[0]);
      if (c == '\n') return out;
      if (out.size() == kGlobalBytes) refuse("a name of more than ", kGlobalBytes, " bytes");
      out += c;
    }
  }

  // --- stack, marks, memo ---
  PickleRef make(PickleValue value) {
    if (out_.values.size() >= limits_.values) refuse("more than ", limits_.values, " values");
    out_.values.push_back(std::move(value));
    return static_cast<PickleRef>(out_.values.size() - 1);
  }
  void push(PickleRef ref) {
    if (stack_.size() >= limits_.stack) refuse("more than ", limits_.stack, " values on the stack");
    stack_.push_back(ref);
  }
  void push(PickleValue value) { push(make(std::move(value))); }
  void push_int(std::int64_t value) { push({.kind = Kind::kInt, .integer = value}); }
  void push_text(Kind kind, std::uint64_t count) { push({.kind = kind, .text = text(count)}); }

  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleRef pop() {
    if (stack_.size() <= floor()) refuse("the stack is empty");
    const PickleRef out = stack_.back();
    stack_.pop_back();
    return out;
  }
  PickleRef peek() const {
    if (stack_.size() <= floor()) refuse("the stack is empty");
    return stack_.back();
  }
  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) refuse("no mark on the stack");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleRef> out(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return out;
  }
  std::vector<PickleRef> pop_many(std::size_t count) {
    std::vector<PickleRef> out(count);
    for (std::size_t i = count; i-- > 0;) out[i] = pop();
    return out;
  }
  void put(std::uint64_t key) {
    if (memo_.size() >= limits_.memo) refuse("more than ", limits_.memo, " entries in the memo");
    memo_[key] = peek();
  }
  void get(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) refuse("no entry ", key, " in the memo");
    push(found->second);
  }

  // --- containers ---
  void count_references(std::size_t more) {
    references_ += more;
    if (references_ > limits_.references) {
      refuse("more than ", limits_.references, " items in containers");
    }
  }
  void make_container(Kind kind, std::vector<PickleRef> items) {
    count_references(items.size());
    push({.kind = kind, .items = std::move(items)});
  }
  // Items for a container below them on the stack; those of a kOpaque one are dropped.
  void extend(Kind kind, const std::vector<PickleRef>& items) {
    PickleValue& container = out_.values[peek()];
    if (container.kind == Kind::kOpaque) return;
    if (container.kind != kind) refuse("got ", describe(container), " to add to");
    if (kind == Kind::kDict) check_keys(items);
    count_references(items.size());
    container.items.insert(container.items.end(), items.begin(), items.end());
  }
  void check_keys(const std::vector<PickleRef>& items) const {
    if (items.size() % 2 != 0) refuse("a key without a value");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const Kind kind = out_.values[items[i]].kind;
      if (kind == Kind::kList || kind == Kind::kDict || kind == Kind::kSet) {
        refuse("a key is ", describe(out_.values[items[i]]));
      }
    }
  }

  // --- objects ---
  void push_global(const std::string& module, const std::string& name) {
    const std::string full = module + '.' + name;
    if (!is_allowed(full)) {
      refuse("the file asks for ", shown_text(full),
             ", which weights do not need; save model.state_dict() instead");
    }
    push({.kind = Kind::kGlobal, .text = full});
  }
  void stack_global() {
    const auto parts = pop_many(2);
    for (const PickleRef part : parts) {
      const PickleValue& value = out_.values[part];
      if (value.kind != Kind::kString || value.text.size() > kGlobalBytes) {
        refuse("got ", describe(value), ", want a name");
      }
    }
    // Copies: push_global may move the values.
    const std::string module = out_.values[parts[0]].text, name = out_.values[parts[1]].text;
    push_global(module, name);
  }

  const PickleValue& argument(const PickleValue& args, std::size_t i, Kind kind,
                              const char* want) const {
    const PickleValue& value = out_.values[args.items[i]];
    if (value.kind != kind) refuse("argument ", i, " is ", describe(value), ", want ", want);
    return value;
  }

  // The object that `callable`, which is no more than a name, would make of `args`.
  void construct(PickleRef callable_ref, PickleRef args_ref) {
    const PickleValue& callable = out_.values[callable_ref];
    const PickleValue& args = out_.values[args_ref];
    if (callable.kind != Kind::kGlobal) refuse("got ", describe(callable), ", want a global");
    if (args.kind != Kind::kTuple) refuse("got ", describe(args), ", want a tuple of arguments");
    const std::string_view name = callable.text;
    if (is_inert(name)) {
      push({.kind = Kind::kOpaque, .text = std::string(name)});
    } else if (name == kOrderedDict) {
      if (!args.items.empty()) refuse(name, " with ", args.items.size(), " arguments, want none");
      push({.kind = Kind::kDict});
    } else if (name == kTorchSize) {
      if (args.items.size() != 1) refuse(name, " with ", args.items.size(), " arguments, want 1");
      check_extents(argument(args, 0, Kind::kTuple, "a tuple"));
      push(args.items[0]);
    } else if (name == kRebuildTensor) {
      push_tensor(args);
    } else if (name == kRebuildParameter) {
      if (args.items.size() != 3) refuse(name, " with ", args.items.size(), " arguments, want 3");
      argument(args, 0, Kind::kTensor, "a tensor");
      push(args.items[0]);
    } else {
      refuse(shown_text(callable.text), " is no constructor");
    }
  }
  // A long tuple that many tensors share would be walked again for each.
  void check_extents(const PickleValue& tuple) const {
    if (tuple.items.size() > kMostAxes) {
      refuse("a shape of ", tuple.items.size(), " axes, at most ", kMostAxes);
    }
    for (const PickleRef item : tuple.items) {
      const PickleValue& value = out_.values[item];
      if (value.kind != Kind::kInt || value.integer < 0) {
        refuse("got ", describe(value), ", want a number of at least 0");
      }
    }
  }
  // storage, offset, size, stride, requires_grad, backward_hooks, and newer: metadata
  void push_tensor(const PickleValue& args) {
    if (args.items.size() != 6 && args.items.size() != 7) {
      refuse("a tensor of ", args.items.size(), " arguments, want 6 or 7");
    }
    const PickleValue& storage = argument(args, 0, Kind::kStorage, "a storage");
    if (storage.type == StorageType::kUntyped) refuse("a tensor over a storage without a type");
    const PickleValue& offset = argument(args, 1, Kind::kInt, "a number");
    if (offset.integer < 0) refuse("a tensor at offset ", offset.integer);
    const PickleValue& size = argument(args, 2, Kind::kTuple, "a tuple");
    const PickleValue& stride = argument(args, 3, Kind::kTuple, "a tuple");
    check_extents(size);
    check_extents(stride);
    if (size.items.size() != stride.items.size()) {
      refuse("a tensor of ", size.items.size(), " extents and ", stride.items.size(), " strides");
    }
    if (args.items.size() == 7) check_bits(out_.values[args.items[6]]);
    count_references(3);
    push({.kind = Kind::kTensor,
          .integer = offset.integer,
          .items = {args.items[0], args.items[2], args.items[3]}});
  }
  // Metadata names bits such as "neg" and "conj": the values are not those that the storage has.
  void check_bits(const PickleValue& metadata) const {
    if (metadata.kind == Kind::kNone) return;
    if (metadata.kind != Kind::kDict) {
      refuse("argument 6 is ", describe(metadata), ", want a dict of the tensor's bits");
    }
    if (metadata.items.empty()) return;
    const PickleValue& bit = out_.values[metadata.items.front()];
    refuse("a tensor with the bit ",
           bit.kind == Kind::kString ? shown_text(bit.text) : describe(bit),
           " set, whose values are not as they are stored; call .resolve_neg() and "
           ".resolve_conj() on it before torch.save");
  }
  // ("storage", type, key, device, elements), and older: a view of it
  void push_storage(PickleRef ref) {
    const PickleValue& id = out_.values[ref];
    if (id.kind != Kind::kTuple || (id.items.size() != 5 && id.items.size() != 6)) {
      refuse("got ", describe(id), ", want a storage's five values");
    }
    if (argument(id, 0, Kind::kString, "\"storage\"").text != "storage") {
      refuse("got ", describe(out_.values[id.items[0]]), ", want \"storage\"");
    }
    const PickleValue& global = argument(id, 1, Kind::kGlobal, "a type of storage");
    const std::optional<StorageType> type = storage_named(global.text);
    if (!type) refuse("got ", describe(global), ", want a type of storage");
    const PickleValue& key = argument(id, 2, Kind::kString, "a storage's key");
    argument(id, 3, Kind::kString, "a device");
    const PickleValue& elements = argument(id, 4, Kind::kInt, "a number of elements");
    if (elements.integer < 0) refuse("a storage of ", elements.integer, " elements");
    if (id.items.size() == 6) argument(id, 5, Kind::kNone, "None: views of storages are not read");
    push({.kind = Kind::kStorage, .type = *type, .integer = elements.integer, .text = key.text});
  }
  // Attributes of an object: none that is used has any that matter.
  void build() {
    pop();
    const PickleValue& object = out_.values[peek()];
    if (object.kind != Kind::kDict && object.kind != Kind::kOpaque) {
      refuse("attributes for ", describe(object));
    }
  }

  void push_long(std::uint64_t count) {
    if (count > sizeof(std::int64_t)) return push_text(Kind::kBigInt, count);
    std::uint64_t value = 0;
    const auto part = take(count);
    std::memcpy(&value, part.data(), part.size());
    if (!part.empty() && part.size() < 8 && (std::to_integer<unsigned>(part.back()) & 0x80u)) {
      value |= ~std::uint64_t{0} << (8 * part.size());  // the sign
    }
    push_int(static_cast<std::int64_t>(value));
  }

  bool step() {
    op_at_ = at_;
    if (at_ == bytes_.size()) {
      fail(ExitCode::kBadCheckpoint, "pickle: ends at byte ", at_, " without the opcode STOP",
           kCutShort);
    }
    code_ = std::to_integer<unsigned char>(bytes_[at_++]);
    if (scalar() || container() || object()) return true;
    if (code_ == '.') return false;
    refuse("no opcode that weights need");
  }

  // Each of the three returns whether the opcode was one of its own.
  bool scalar() {
    struct Text {
      unsigned char code;
      Kind kind;
      std::size_t width;  // bytes of the length before it
    };
    static constexpr Text kTexts[] = {
        {'X', Kind::kString, 4}, {0x8c, Kind::kString, 1}, {0x8d, Kind::kString, 8},
        {'T', Kind::kString, 4}, {'U', Kind::kString, 1},  {'B', Kind::kBytes, 4},
        {'C', Kind::kBytes, 1},  {0x8e, Kind::kBytes, 8},  {0x96, Kind::kBytes, 8}};
    for (const Text& known : kTexts) {
      if (known.code != code_) continue;
      push_text(known.kind, unsigned_number(known.width));
      return true;
    }
    if (code_ == 'N') {
      push({.kind = Kind::kNone});
    } else if (code_ == 0x88 || code_ == 0x89) {
      push({.kind = Kind::kBool, .integer = code_ == 0x88});
    } else if (code_ == 'J') {
      push_int(static_cast<std::int32_t>(unsigned_number(4)));
    } else if (code_ == 'K' || code_ == 'M') {
      push_int(static_cast<std::int64_t>(unsigned_number(code_ == 'K' ? 1 : 2)));
    } else if (code_ == 0x8a || code_ == 0x8b) {
      push_long(unsigned_number(code_ == 0x8a ? 1 : 4));
    } else if (code_ == 'G') {
      const std::uint64_t bits = __builtin_bswap64(unsigned_number(8));  // big-endian
      push({.kind = Kind::kFloat, .real = std::bit_cast<double>(bits)});
    } else {
      return false;
    }
    return true;
  }

  bool container() {
    struct Fresh {
      unsigned char code;
      Kind kind;
    };
    static constexpr Fresh kEmpty[] = {
        {')', Kind::kTuple}, {']', Kind::kList}, {'}', Kind::kDict}, {0x8f, Kind::kSet}};
    static constexpr Fresh kOneMore[] = {{'a', Kind::kList}, {'s', Kind::kDict}};
    static constexpr Fresh kMore[] = {{'e', Kind::kList}, {'u', Kind::kDict}, {0x90, Kind::kSet}};
    for (const Fresh& known : kEmpty) {
      if (known.code == code_) return push({.kind = known.kind}), true;
    }
    for (const Fresh& known : kOneMore) {
      if (known.code != code_) continue;
      return extend(known.kind, pop_many(known.kind == Kind::kDict ? 2 : 1)), true;
    }
    for (const Fresh& known : kMore) {
      if (known.code == code_) return extend(known.kind, pop_to_mark()), true;
    }
    if (code_ == '(') {
      if (marks_.size() >= limits_.depth) refuse("more than ", limits_.depth, " levels");
      marks_.push_back(stack_.size());
    } else if (code_ == 't' || code_ == 0x91) {  // a frozenset serves as well as a tuple
      make_container(Kind::kTuple, pop_to_mark());
    } else if (code_ >= 0x85 && code_ <= 0x87) {
      make_container(Kind::kTuple, pop_many(code_ - 0x84u));
    } else {
      return false;
    }
    return true;
  }

  bool object() {
    if (code_ == 0x80) {
      const std::uint64_t protocol = unsigned_number(1);
      if (protocol < 2 || protocol > 5) refuse("protocol ", protocol, ", want 2 to 5");
    } else if (code_ == 0x95) {
      const std::uint64_t length = unsigned_number(8);
      if (length > bytes_.size() - at_) {
        refuse("a frame of ", length, " bytes where ", bytes_.size() - at_, " are left", kCutShort);
      }
    } else if (code_ == 'c') {
      const std::string module = line(), name = line();
      push_global(module, name);
    } else if (code_ == 0x93) {
      stack_global();
    } else if (code_ == 'R' || code_ == 0x81) {
      const auto parts = pop_many(2);
      construct(parts[0], parts[1]);
    } else if (code_ == 'b') {
      build();
    } else if (code_ == 'Q') {
      push_storage(pop());
    } else if (code_ == 'q' || code_ == 'r') {
      put(unsigned_number(code_ == 'q' ? 1 : 4));
    } else if (code_ == 0x94) {
      put(memo_.size());
    } else if (code_ == 'h' || code_ == 'j') {
      get(unsigned_number(code_ == 'h' ? 1 : 4));
    } else {
      return false;
    }
    return true;
  }

  std::span<const std::byte> bytes_;
  PickleLimits limits_;
  Pickle out_;
  std::vector<PickleRef> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  std::unordered_map<std::uint64_t, PickleRef> memo_;
  std::size_t references_ = 0;
  std::size_t at_ = 0, op_at_ = 0;
  unsigned char code_ = 0;
};

}  // namespace

const PickleValue* Pickle::find(const PickleValue& dict, const std::string& key) const {
  if (dict.kind != Kind::kDict) return nullptr;
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const PickleValue& name = values[dict.items[i]];
    if (name.kind == Kind::kString && name.text == key) return &values[dict.items[i + 1]];
  }
  return nullptr;
}

Pickle parse_pickle(std::span<const std::byte> bytes, const PickleLimits& limits) {
  return Machine(bytes, limits).run();
}

}  // namespace onpa::io
