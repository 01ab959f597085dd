#include "nn/weights_file.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "kernels/error.h"
#include "tensor/io/byte_input.h"
#include "tensor/io/torch_file.h"
#include "tensor/io/torch_legacy.h"

namespace onpa::nn {
namespace {

using io::PickleRef;
using io::PickleValue;
using Kind = PickleValue::Kind;

constexpr std::size_t kHeadBytes = 512;
constexpr std::size_t kNamesShown = 6;
constexpr std::size_t kMostNameBytes = 512;
constexpr std::size_t kMostSets = 64;

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size() && i < kNamesShown; ++i) {
    out += (i ? ", " : "") + io::shown_text(names[i]);
  }
  if (names.size() > kNamesShown) {
    out += " and " + std::to_string(names.size() - kNamesShown) + " more";
  }
  return out.empty() ? "nothing" : out;
}

// --- what a file is, by its first bytes ---

enum class Content { kTorch, kSafetensors, kUnknown };

struct Known {
  std::string_view start;
  const char* message;
};
constexpr Known kNoWeights[] = {
    {"version https://git-lfs", "a Git LFS pointer, not the file itself; run git lfs pull"},
    {"<",
     "a web page or XML, not weights; the download saved an error page or a preview: use the "
     "link of the file itself"},
    {"\x1f\x8b", "compressed with gzip; unpack it first"},
    {"\x89HDF", "an HDF5 file; want safetensors or a file of torch.save"},
    {"\x93NUMPY", "a NumPy array; want safetensors or a file of torch.save"},
    {"GGUF", "a GGUF file; want safetensors or a file of torch.save"},
};

Content content_of(const io::ByteInput& input) {
  const std::string head = input.head(kHeadBytes);
  if (head.empty()) fail(ExitCode::kBadCheckpoint, input.name(), ": the file is empty");
  for (const Known& known : kNoWeights) {
    if (head.starts_with(known.start)) {
      fail(ExitCode::kBadCheckpoint, input.name(), ": ", known.message);
    }
  }
  if (head.starts_with("PK\3\4") || head.starts_with("PK\5\6")) return Content::kTorch;
  if (io::is_torch_legacy(input)) return Content::kTorch;
  if (head.size() > 8 && head[8] == '{') return Content::kSafetensors;
  return Content::kUnknown;
}

// --- weights in what torch.save wrote ---

// Weights that belong together, and what stood before their names.
struct Set {
  std::string name;
  std::vector<std::string> also;  // other names of the same dict
  std::vector<std::pair<std::string, PickleRef>> tensors;

  bool is_called(const std::string& other) const {
    return name == other || std::find(also.begin(), also.end(), other) != also.end();
  }
};

bool strip(std::string& name, std::string_view prefix) {
  if (!name.starts_with(prefix) || name.size() == prefix.size()) return false;
  name.erase(0, prefix.size());
  return true;
}

// Takes away the wrappers of training, in whatever order they are nested: data parallelism and
// weight averaging, torch.compile, and the attributes that the model is kept under, the most
// telling of which names the set. Returns it, "" if there is none.
std::string strip_wrappers(std::string& name) {
  constexpr std::string_view kSets[] = {"model.", "net.", "net_swa."};  // ever more telling
  std::size_t best = 0;
  for (bool more = true; more;) {
    more = strip(name, "module.") || strip(name, "_orig_mod.");
    for (std::size_t i = 0; i < std::size(kSets); ++i) {
      if (!strip(name, kSets[i])) continue;
      more = true;
      best = std::max(best, i + 1);
    }
  }
  return best == 0 ? "" : std::string(kSets[best - 1].substr(0, kSets[best - 1].size() - 1));
}

class Reader {
 public:
  Reader(const io::TorchFile& file, WeightsFile& out) : file_(file), out_(out) {}

  void read(const std::string& want) {
    collect();
    const Set& set = choose(want, out_.set);
    std::vector<PickleRef> refs;
    for (const auto& [name, ref] : set.tensors) refs.push_back(ref);
    std::vector<Tensor> tensors = io::read_tensors(file_, refs);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      out_.tensors.emplace_back(set.tensors[i].first, std::move(tensors[i]));
    }
    for (const Set& other : sets_) {
      if (&other != &set) out_.others.push_back("weights " + set_label(other.name));
    }
    out_.sets = names_of_sets();
    out_.precision = precision_of(set);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::kBadCheckpoint, file_.name, ": ", detail::concat(parts...));
  }

  std::vector<std::string> keys_of(const PickleValue& dict) const {
    std::vector<std::string> out;
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const PickleValue& key = file_.content[dict.items[i]];
      out.push_back(key.kind == Kind::kString ? key.text : io::describe(key));
    }
    return out;
  }

  bool has_tensors(const PickleValue& dict) const {
    if (dict.kind != Kind::kDict) return false;
    for (std::size_t i = 1; i < dict.items.size(); i += 2) {
      if (file_.content[dict.items[i]].kind == Kind::kTensor) return true;
    }
    return false;
  }

  void collect() {
    const PickleValue& top = file_.content.top();
    if (top.kind != Kind::kDict) {
      refuse("holds ", io::describe(top), ", want a dict of weights; save model.state_dict()",
             top.kind == Kind::kOpaque ? " in place of the whole object" : "");
    }
    const bool plain = add_once(file_.content.root, "");
    for (std::size_t i = 0; i + 1 < top.items.size(); i += 2) {
      const PickleValue& key = file_.content[top.items[i]];
      const PickleValue& value = file_.content[top.items[i + 1]];
      if (value.kind == Kind::kTensor && plain) continue;
      const std::string base = key.text == "state_dict" ? "" : key.text;
      if (key.kind != Kind::kString || !add_once(top.items[i + 1], base)) {
        out_.others.push_back(key.kind == Kind::kString ? key.text : io::describe(key));
      }
    }
    if (sets_.empty()) no_weights(top);
  }

  // Whether there are weights under `ref`, which are then a set called `base`, or several. A file
  // can name one dict as often as it likes: it is looked at once, and gets another name then.
  bool add_once(PickleRef ref, const std::string& base) {
    const auto [known, fresh] = looked_at_.try_emplace(ref);
    if (fresh) {
      const PickleValue& dict = file_.content[ref];
      if (!has_tensors(dict)) return false;
      known->second = base;
      add_state(dict, base);
      return true;
    }
    Set* set = known->second ? find(*known->second) : nullptr;
    if (set == nullptr || find(base) != nullptr || names_of_sets().size() >= kMostSets) {
      return false;
    }
    set->also.push_back(base);
    return true;
  }

  Set* find(const std::string& name) {
    const auto found = std::find_if(sets_.begin(), sets_.end(),
                                    [&](const Set& known) { return known.is_called(name); });
    return found == sets_.end() ? nullptr : &*found;
  }

  // What a file without any weights is, as far as its keys tell.
  [[noreturn]] void no_weights(const PickleValue& top) const {
    const std::vector<std::string> keys = keys_of(top);
    if (file_.content.find(top, "param_groups") != nullptr) {
      refuse("the state of an optimizer (", listed(keys),
             "), want a model's weights: take the file of its state_dict()");
    }
    refuse("no weights among its entries: ", listed(keys),
           "; want a dict of tensors, or one under state_dict or model");
  }

  // Sorts the entries of one dict into sets by what their names begin with.
  void add_state(const PickleValue& dict, const std::string& base) {
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const PickleValue& key = file_.content[dict.items[i]];
      const PickleValue& value = file_.content[dict.items[i + 1]];
      if (value.kind != Kind::kTensor) continue;
      if (key.kind != Kind::kString) refuse("a tensor under ", io::describe(key), ", want a name");
      check_name(key.text);
      if (!io::is_floating(io::type_of(file_, dict.items[i + 1]))) {
        out_.others.push_back(key.text);
        continue;
      }
      std::string name = key.text;
      const std::string own = strip_wrappers(name);
      // "model" says less than what the dict is called, such as "ema".
      const bool from_dict = own.empty() || (own == "model" && !base.empty());
      add(from_dict ? base : own, name, dict.items[i + 1]);
    }
  }

  // Names go into messages, JSON and other files.
  void check_name(const std::string& name) const {
    const bool printable =
        std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
    if (name.empty() || name.size() > kMostNameBytes || !printable) {
      refuse("a tensor is named '", io::shown_text(name), "', want printable ASCII, at most ",
             kMostNameBytes, " bytes");
    }
  }

  void add(const std::string& set, const std::string& name, PickleRef ref) {
    Set* found = find(set);
    if (found == nullptr) {
      if (sets_.size() == kMostSets) refuse("more than ", kMostSets, " sets of weights");
      found = &sets_.emplace_back(Set{set, {}, {}});
    }
    found->tensors.emplace_back(name, ref);
  }

  std::vector<std::string> names_of_sets() const {
    std::vector<std::string> out;
    for (const Set& set : sets_) {
      out.push_back(set.name);
      out.insert(out.end(), set.also.begin(), set.also.end());
    }
    return out;
  }

  // The set that somebody wants, by its name or its label, else the best; `name` is what it was
  // found by.
  const Set& choose(const std::string& want, std::string& name) {
    std::vector<std::string> order = {"net_swa", "net", "", "model"};
    if (!want.empty()) order = {want};
    if (want == set_label("")) order.emplace_back();
    for (const std::string& candidate : order) {
      const Set* set = find(candidate);
      if (set == nullptr) continue;
      name = candidate;
      return checked(*set);
    }
    if (want.empty() && sets_.size() == 1) {
      name = sets_.front().name;
      return checked(sets_.front());
    }
    std::vector<std::string> labels;
    for (const std::string& there : names_of_sets()) labels.push_back(set_label(there));
    if (want.empty()) refuse("sets of weights: ", listed(labels), "; choose one with --set");
    refuse("no weights '", io::shown_text(want), "'; it has ", listed(labels));
  }

  const Set& checked(const Set& set) const {
    std::vector<std::string> names;
    for (const auto& [name, ref] : set.tensors) names.push_back(name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) refuse("two tensors are named ", *twice);
    return set;
  }

  std::string precision_of(const Set& set) const {
    std::string out;
    for (const auto& [name, ref] : set.tensors) {
      const std::string type = io::name_of(io::type_of(file_, ref));
      if (!out.empty() && out != type) return "mixed";
      out = type;
    }
    return out;
  }

  const io::TorchFile& file_;
  WeightsFile& out_;
  std::vector<Set> sets_;
  // Dicts, and what those with weights were called first.
  std::unordered_map<PickleRef, std::optional<std::string>> looked_at_;
};

WeightsFile from_torch(const io::TorchFile& file, const std::string& set) {
  WeightsFile out;
  out.source = file.name;
  out.container = file.container;
  out.metadata = file.metadata;
  Reader(file, out).read(set);
  return out;
}

WeightsFile from_safetensors(const std::filesystem::path& path, const std::string& set) {
  if (!set.empty() && set != set_label("")) {
    fail(ExitCode::kBadCheckpoint, path.string(), ": no weights '", io::shown_text(set),
         "'; a safetensors file has one set, without a name");
  }
  io::SafetensorsFile file = io::read_safetensors(path);
  WeightsFile out;
  out.source = path;
  out.container = "safetensors";
  out.sets = {""};
  out.metadata = std::move(file.metadata);
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    auto& [name, tensor] = file.tensors[i];
    if (tensor.dtype() == DType::kI32 || tensor.dtype() == DType::kI64) {
      out.others.push_back(name);
      continue;
    }
    const std::string& type = file.types[i];
    out.precision = out.precision.empty() || out.precision == type ? type : "mixed";
    out.tensors.emplace_back(name, tensor.dtype() == DType::kF32 ? tensor : tensor.to(DType::kF32));
  }
  return out;
}

}  // namespace

WeightsFile read_weights(const std::filesystem::path& path, const std::string& set) {
  Content content = Content::kUnknown;
  {
    const io::ByteInput input(path);
    content = content_of(input);
  }
  switch (content) {
    case Content::kTorch:
      return from_torch(io::read_torch_file(path), set);
    case Content::kSafetensors:
      return from_safetensors(path, set);
    case Content::kUnknown:
      break;
  }
  fail(ExitCode::kBadCheckpoint, path.string(), ": not a safetensors file, nor one of torch.save");
}

std::string set_label(const std::string& set) {
  return set.empty() ? "without a name" : io::shown_text(set);
}

std::string set_labels(const WeightsFile& file) {
  std::vector<std::string> names;
  for (const std::string& set : file.sets) names.push_back(set_label(set));
  return listed(names);
}

WeightsFile read_torch_weights(std::span<const std::byte> bytes, const std::string& name,
                               const std::string& set) {
  return from_torch(io::read_torch_file(bytes, name), set);
}

}  // namespace onpa::nn
