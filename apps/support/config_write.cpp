// Writing settings: as TOML that reads back the same, and as text for people.
#include <fmt/format.h>

#include <stdexcept>

#include "apps/support/config.h"

namespace onpa::apps {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // which clang 14 does not work out

// A TOML basic string.
std::string toml_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string toml_number(double value) {
  std::string out = fmt::format("{}", value);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string toml_value(const Setting& setting) {
  return std::visit(Overloaded{[](bool* v) -> std::string { return *v ? "true" : "false"; },
                               [](std::int64_t* v) { return std::to_string(*v); },
                               [](double* v) { return toml_number(*v); },
                               [](std::string* v) { return toml_string(*v); },
                               [](IntList* v) { return fmt::format("[{}]", fmt::join(*v, ", ")); }},
                    setting.value);
}

}  // namespace

std::string to_toml(const Config& config) {
  Config copy = config;
  std::string out, section;
  for (const Setting& s : settings_of(copy)) {
    const std::string name = s.key.substr(0, s.key.find('.'));
    if (name != section) {
      out += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", name);
      section = name;
    }
    out += fmt::format("{} = {}\n", s.key.substr(name.size() + 1), toml_value(s));
  }
  return out;
}

std::string value_text(const Config& config, const std::string& key) {
  Config copy = config;
  for (const Setting& s : settings_of(copy)) {
    if (s.key == key) return toml_value(s);
  }
  throw std::out_of_range("no setting " + key);
}

std::vector<std::string> changed_keys(const Config& a, const Config& b) {
  Config left = a, right = b;
  const auto left_settings = settings_of(left), right_settings = settings_of(right);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < left_settings.size(); ++i) {
    if (toml_value(left_settings[i]) != toml_value(right_settings[i])) {
      out.push_back(left_settings[i].key);
    }
  }
  return out;
}

std::string describe_settings() {
  Config passt = parse_toml("passt", "", "defaults"), dense = parse_toml("dense", "", "defaults");
  const std::vector<Setting> settings = settings_of(passt), other = settings_of(dense);
  std::string out;
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const Setting& s = settings[i];
    const std::string value = toml_value(s), dense_value = toml_value(other[i]);
    const bool number = std::holds_alternative<std::int64_t*>(s.value) ||
                        std::holds_alternative<double*>(s.value) ||
                        std::holds_alternative<IntList*>(s.value);
    out += fmt::format("{} = {}", s.key, value);
    if (dense_value != value) out += fmt::format(" (dense: {})", dense_value);
    if (number) out += fmt::format(" [{} to {}]", s.low, s.high);
    if (!s.choices.empty()) out += fmt::format(" [{}]", fmt::join(s.choices, "|"));
    out += fmt::format("\n    {}\n", s.doc);
  }
  return out;
}

}  // namespace onpa::apps
