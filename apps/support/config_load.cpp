// Reading settings from TOML, the environment and `--set`.
#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "apps/support/config.h"
#include "apps/support/suggest.h"
#include "data/table.h"
#include "kernels/error.h"

extern char** environ;

namespace onpa::apps {
namespace {

// A value as its source spelled it: typed (TOML) or plain text (environment, --set).
struct Text {
  std::string text;
};
struct OtherType {
  std::string name;
};
using RawValue = std::variant<bool, std::int64_t, double, std::string, IntList, Text, OtherType>;

struct Assignment {
  std::string key;
  RawValue value;
  std::string origin;  // "train.toml:3:5", "environment ONPA_TRAIN_LR", "--set"
};

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // which clang 14 does not work out

const char* type_name(const Setting& setting) {
  constexpr const char* kNames[] = {"true or false", "a whole number", "a number", "a text",
                                    "a list of whole numbers"};
  return kNames[setting.value.index()];
}

// A text for a message; the rest of a very long one helps nobody.
std::string shortened(const std::string& text) {
  constexpr std::size_t kLongest = 80;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

std::string show(const RawValue& value) {
  return std::visit(
      Overloaded{[](bool v) -> std::string { return v ? "true" : "false"; },
                 [](std::int64_t v) { return std::to_string(v); },
                 [](double v) { return fmt::format("{}", v); },
                 [](const std::string& v) { return "\"" + shortened(v) + "\""; },
                 [](const IntList& v) { return fmt::format("[{}]", fmt::join(v, ", ")); },
                 [](const Text& v) { return "'" + shortened(v.text) + "'"; },
                 [](const OtherType& v) { return v.name; }},
      value);
}

[[noreturn]] void wrong_type(const Setting& setting, const Assignment& a) {
  fail(ExitCode::kConfig, a.origin, ": ", setting.key, " is ", show(a.value), ", want ",
       type_name(setting));
}

bool parse_int(std::string_view text, std::int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_int_list(std::string_view text, IntList& out) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  out.clear();
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view item = text.substr(0, comma);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    std::int64_t value = 0;
    if (!parse_int(item, value)) return false;
    out.push_back(value);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return true;
}

// Turns plain text into the value that the setting's type makes of it; leaves it if it does not.
RawValue typed(const Setting& setting, const std::string& text) {
  if (std::holds_alternative<bool*>(setting.value)) {
    if (text == "true") return true;
    if (text == "false") return false;
  } else if (std::holds_alternative<std::string*>(setting.value)) {
    return text;
  } else if (std::holds_alternative<std::int64_t*>(setting.value)) {
    std::int64_t value = 0;
    if (parse_int(text, value)) return value;
  } else if (std::holds_alternative<double*>(setting.value)) {
    double value = 0;
    if (data::parse_number(text, value)) return value;
  } else {
    IntList list;
    if (parse_int_list(text, list)) return list;
  }
  return Text{text};
}

void check_range(const Setting& setting, double value, const Assignment& a) {
  if (!(value >= setting.low && value <= setting.high)) {
    fail(ExitCode::kConfig, a.origin, ": ", setting.key, " is ", show(a.value), ", want ",
         fmt::format("{} to {}", setting.low, setting.high));
  }
}

void assign(const Setting& setting, Assignment a) {
  if (const Text* text = std::get_if<Text>(&a.value)) a.value = typed(setting, text->text);
  if (auto* const* flag = std::get_if<bool*>(&setting.value)) {
    const bool* v = std::get_if<bool>(&a.value);
    if (!v) wrong_type(setting, a);
    **flag = *v;
  } else if (auto* const* whole = std::get_if<std::int64_t*>(&setting.value)) {
    const std::int64_t* v = std::get_if<std::int64_t>(&a.value);
    if (!v) wrong_type(setting, a);
    check_range(setting, static_cast<double>(*v), a);
    **whole = *v;
  } else if (auto* const* number = std::get_if<double*>(&setting.value)) {
    const double* real = std::get_if<double>(&a.value);
    const std::int64_t* v = std::get_if<std::int64_t>(&a.value);
    if (!real && !v) wrong_type(setting, a);
    const double value = real ? *real : static_cast<double>(*v);
    check_range(setting, value, a);
    **number = value;
  } else if (auto* const* text = std::get_if<std::string*>(&setting.value)) {
    const std::string* v = std::get_if<std::string>(&a.value);
    if (!v) wrong_type(setting, a);
    if (!setting.choices.empty() &&
        std::find(setting.choices.begin(), setting.choices.end(), *v) == setting.choices.end()) {
      fail(ExitCode::kConfig, a.origin, ": ", setting.key, " is ", show(a.value), ", want ",
           fmt::format("{}", fmt::join(setting.choices, ", ")), suggestion(*v, setting.choices));
    }
    **text = *v;
  } else {
    const IntList* v = std::get_if<IntList>(&a.value);
    if (!v) wrong_type(setting, a);
    for (const std::int64_t item : *v) check_range(setting, static_cast<double>(item), a);
    *std::get<IntList*>(setting.value) = *v;
  }
}

RawValue raw_value(const toml::node& node) {
  if (const auto* v = node.as_boolean()) return v->get();
  if (const auto* v = node.as_integer()) return v->get();
  if (const auto* v = node.as_floating_point()) return v->get();
  if (const auto* v = node.as_string()) return v->get();
  if (const auto* list = node.as_array()) {
    IntList out;
    for (const toml::node& item : *list) {
      const auto* v = item.as_integer();
      if (!v) return OtherType{"a list with an item that is no whole number"};
      out.push_back(v->get());
    }
    return out;
  }
  return OtherType{node.is_table() ? "a table" : "a date or time"};
}

std::string position(const std::string& name, const toml::source_region& source) {
  return fmt::format("{}:{}:{}", name, source.begin.line, source.begin.column);
}

std::vector<Assignment> read_toml(const std::string& text, const std::string& name) {
  std::vector<Assignment> out;
  try {
    const toml::table root = toml::parse(text, name);
    for (const auto& [section, node] : root) {
      const auto* table = node.as_table();
      if (!table) {
        out.push_back({std::string(section.str()), raw_value(node), position(name, node.source())});
        continue;
      }
      for (const auto& [key, value] : *table) {
        out.push_back({std::string(section.str()) + "." + std::string(key.str()), raw_value(value),
                       position(name, key.source())});
      }
    }
  } catch (const toml::parse_error& error) {
    fail(ExitCode::kConfig, position(name, error.source()), ": ", error.description());
  }
  return out;
}

std::string environment_name(const std::string& key) {
  std::string out = "ONPA_" + key;
  for (char& c : out) c = c == '.' ? '_' : static_cast<char>(std::toupper(c));
  return out;
}

std::string section_of(const std::string& key) {
  return key.substr(0, key.find('.'));
}

std::vector<Assignment> read_environment(const std::vector<Setting>& settings) {
  std::vector<Assignment> out;
  std::vector<std::string> names;
  for (const Setting& s : settings) names.push_back(environment_name(s.key));
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (text.rfind("ONPA_", 0) != 0 || equals == std::string::npos) continue;
    const std::string name = text.substr(0, equals);
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) {
      out.push_back({settings[static_cast<std::size_t>(found - names.begin())].key,
                     Text{text.substr(equals + 1)}, "environment " + name});
      continue;
    }
    for (const Setting& s : settings) {
      if (name.rfind(environment_name(section_of(s.key)) + "_", 0) == 0) {
        fail(ExitCode::kConfig, "environment ", name, ": no such setting", suggestion(name, names));
      }
    }
  }
  return out;
}

std::vector<Assignment> read_overrides(const std::vector<std::string>& set) {
  std::vector<Assignment> out;
  for (const std::string& text : set) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) {
      fail(ExitCode::kConfig, "--set ", text, ": want section.key=value");
    }
    out.push_back({text.substr(0, equals), Text{text.substr(equals + 1)}, "--set " + text});
  }
  return out;
}

Config defaults(const std::string& kind, const std::string& preset) {
  Config c;
  c.model.kind = kind;
  if (kind == "dense") {
    c.model.preset = "dense";
    c.train.batch_size = 512;
    c.train.eval_batch_size = 4096;
    c.train.lr = 1e-3;
    c.train.epochs = 50;
    return c;
  }
  const std::vector<std::string> known = nn::PasstConfig::preset_names();
  const bool found = std::find(known.begin(), known.end(), preset) != known.end();
  c.model.preset = preset.empty() ? "passt-s" : preset;
  // A name that is no preset is refused where it is set, with the place.
  const nn::PasstInput input = nn::preset_input(found ? preset : "passt-s");
  c.data.seconds = input.seconds;
  c.mel.hop_samples = input.hop_samples;
  c.train.patchout_time = input.patchout.time;
  c.train.patchout_freq = input.patchout.freq;
  if (c.model.preset == "passt-xs") {
    c.train.batch_size = 16;
    c.train.lr = 1e-3;
    return c;
  }
  c.mel.fmin_range_hz = 10;
  c.mel.fmax_range_hz = 2000;
  c.mel.freq_mask = 48;
  c.mel.time_mask = 192;
  return c;
}

// Puts numbers where zeros stand for another setting's value, and checks what belongs together.
void resolve(Config& c) {
  if (c.schedule.total_epochs == 0) {
    c.schedule.total_epochs = std::max(1.0, static_cast<double>(c.train.epochs));
  }
  if (c.mel.fmin_hz >= c.mel.fmax_hz) {
    fail(ExitCode::kConfig, "mel.fmin_hz is ", c.mel.fmin_hz, ", want under mel.fmax_hz (",
         c.mel.fmax_hz, ")");
  }
  if (c.data.gain_low_db > c.data.gain_high_db) {
    fail(ExitCode::kConfig, "data.gain_low_db is ", c.data.gain_low_db,
         ", want at most data.gain_high_db (", c.data.gain_high_db, ")");
  }
  if (const char* own = c.model.kind == "dense" ? "smogn" : "mixup";
      c.data.rare != "none" && c.data.rare != own) {
    fail(ExitCode::kConfig, "data.rare is ", c.data.rare, ", want ", own, " or none for ",
         c.model.kind);
  }
  nn::lr_multiplier(c.lr_schedule(), 0);  // throws for settings that contradict each other
  if ((c.model.kind == "dense") != (c.model.preset == "dense")) {
    fail(ExitCode::kConfig, "model.preset is \"", c.model.preset, "\", which is no preset of ",
         c.model.kind);
  }
  if (c.model.kind == "dense") {
    // Layers of a Dense have no names that these could mean.
    if (c.train.freeze != "none" || c.optim.layer_decay != 1 || c.optim.head_lr_scale != 1) {
      fail(ExitCode::kConfig,
           c.train.freeze != "none"   ? "train.freeze"
           : c.optim.layer_decay != 1 ? "optim.layer_decay"
                                      : "optim.head_lr_scale",
           " is for passt, not for dense");
    }
    return;
  }
  const nn::PasstConfig p = c.passt();
  p.validate();
  c.mel.mels = p.mels;
  c.model.depth = p.depth;
  c.model.width = p.width;
  c.model.heads = p.heads;
  c.model.mlp = p.mlp;
  c.model.patch_f = p.patch_f;
  c.model.patch_t = p.patch_t;
  c.model.stride_f = p.stride_f;
  c.model.stride_t = p.stride_t;
  c.model.table_t = p.table_t;
}

Config build(const std::string& kind, const std::vector<Assignment>& assignments) {
  // The preset decides other defaults, so it is looked for first.
  std::string preset;
  for (const Assignment& a : assignments) {
    if (a.key != "model.preset") continue;
    if (const auto* v = std::get_if<std::string>(&a.value)) preset = *v;
    if (const auto* v = std::get_if<Text>(&a.value)) preset = v->text;
  }
  Config config = defaults(kind, preset);
  const std::vector<Setting> settings = settings_of(config);
  std::vector<std::string> keys;
  for (const Setting& s : settings) keys.push_back(s.key);
  for (const Assignment& a : assignments) {
    const auto found = std::find(keys.begin(), keys.end(), a.key);
    if (found == keys.end()) {
      fail(ExitCode::kConfig, a.origin, ": no setting '", shortened(a.key), "'",
           suggestion(a.key, keys));
    }
    assign(settings[static_cast<std::size_t>(found - keys.begin())], a);
    if (a.key == "model.kind" && config.model.kind != kind) {
      fail(ExitCode::kConfig, a.origin, ": model.kind is \"", config.model.kind,
           "\", but the command trains ", kind);
    }
  }
  resolve(config);
  return config;
}

}  // namespace

Config load_config(const std::string& kind, const std::filesystem::path& file,
                   const std::vector<std::string>& set, std::vector<std::string>* given) {
  std::vector<Assignment> all;
  if (!file.empty()) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) {
      fail(ExitCode::kInputMissing, file.string(), ": no such configuration file");
    }
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    if (!in || std::filesystem::is_directory(file, error)) {
      fail(ExitCode::kConfig, file.string(), ": cannot be read as a configuration file");
    }
    all = read_toml(text.str(), file.string());
  }
  Config probe;
  for (Assignment& a : read_environment(settings_of(probe))) all.push_back(std::move(a));
  for (Assignment& a : read_overrides(set)) all.push_back(std::move(a));
  if (given != nullptr) {
    for (const Assignment& a : all) given->push_back(a.key);
  }
  return build(kind, all);
}

Config rebase(const Config& asked, const std::vector<std::string>& given, const std::string& preset,
              const std::vector<std::pair<std::string, std::string>>& values,
              const std::string& origin) {
  Config out = defaults(asked.model.kind, preset), source = asked;
  const std::vector<Setting> to = settings_of(out), from = settings_of(source);
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (std::find(given.begin(), given.end(), to[i].key) == given.end()) continue;
    std::visit([&](auto* target) { *target = *std::get<decltype(target)>(from[i].value); },
               to[i].value);
  }
  for (const auto& [key, text] : values) {
    const auto found = std::ranges::find(to, key, &Setting::key);
    ONPA_CHECK(found != to.end(), "config: no setting ", key);
    assign(*found, {key, Text{text}, origin});
  }
  resolve(out);
  return out;
}

Config parse_toml(const std::string& kind, const std::string& text, const std::string& name) {
  return build(kind, read_toml(text, name));
}

}  // namespace onpa::apps
