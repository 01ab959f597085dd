#include "apps/report/report_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>

namespace onpa::apps::report {
namespace {

constexpr const char* kUnknown = "–";
constexpr const char* kMinus = "−";
constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the character that `text` begins with; 0 if it is none of UTF-8, or none that XML has.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t count = byte(0) < 0x80                       ? 1
                            : byte(0) >= 0xC2 && byte(0) <= 0xDF ? 2
                            : (byte(0) & 0xF0) == 0xE0           ? 3
                            : byte(0) >= 0xF0 && byte(0) <= 0xF4 ? 4
                                                                 : 0;
  if (count == 0 || text.size() < count) return 0;
  std::uint32_t code = count == 1 ? byte(0) : byte(0) & (0xFFu >> (count + 1));
  for (std::size_t i = 1; i < count; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  const bool overlong = (count == 3 && code < 0x800) || (count == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  const bool none = code == 0xFFFE || code == 0xFFFF || code > 0x10FFFF;
  return overlong || surrogate || none ? 0 : count;
}

// The text with a replacement character for each byte of what is no character.
std::string as_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    out += bytes > 0 ? text.substr(0, bytes) : std::string_view(kReplacement);
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return out;
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f;
}

std::string printed(const char* format, int digits, double value) {
  std::array<char, 400> text;
  std::snprintf(text.data(), text.size(), format, digits, value);
  return text.data();
}

// The sign as a person writes it, and none before a number that shows as 0.
std::string signed_text(std::string text) {
  if (!text.starts_with('-')) return text;
  text.erase(0, 1);
  return text.find_first_of("123456789") == std::string::npos ? text : kMinus + text;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : as_utf8(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += is_control(c) ? std::string(kReplacement) : std::string(1, c);
    }
  }
  return out;
}

std::string escape_markdown(std::string_view text) {
  std::string out;
  for (const char c : as_utf8(text)) {
    if (c == '\n' || c == '\t') {
      out += ' ';
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (is_control(c)) {
      out += kReplacement;
    } else {
      if (std::string_view("\\`*_[]|~").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

std::string without_controls(std::string_view text) {
  std::string out;
  for (const char c : as_utf8(text))
    out += is_control(c) ? std::string(kReplacement) : std::string(1, c);
  return out;
}

std::string quote_for_shell(const std::string& word) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-./:=,+@%").find(c) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string shortened(const std::string& text, std::size_t most) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;  // inside a character
    if (characters++ == most) return text.substr(0, i) + "…";
  }
  return text;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    unsigned group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= n ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

std::string grouped(double count) {
  if (!std::isfinite(count)) return kUnknown;
  std::string text = printed("%.*f", 0, count);
  const std::size_t sign = text.starts_with('-') ? 1 : 0;
  for (std::size_t at = text.size(); at > sign + 3;) {
    at -= 3;
    text.insert(at, ",");
  }
  return signed_text(text);
}

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return kUnknown;
  return signed_text(printed("%.*f", digits, value));
}

std::string with_sign(double value, int digits) {
  const std::string text = fixed(value, digits);
  const bool zero = text.find_first_of("123456789") == std::string::npos;
  return std::isfinite(value) && value > 0 && !zero ? "+" + text : text;
}

std::string significant(double value, int digits) {
  if (!std::isfinite(value)) return kUnknown;
  const double size = std::abs(value);
  if (size == 0) return "0";
  if (size < 1e-6 || size >= 1e6) return signed_text(printed("%.*g", digits, value));
  const int places = digits - 1 - static_cast<int>(std::floor(std::log10(size)));
  return signed_text(printed("%.*f", std::max(0, places), value));
}

std::string error_text(double value) {
  const bool lost = std::isfinite(value) && value != 0 && std::abs(value) < 0.0005;
  return lost ? significant(value, 2) : fixed(value, 4);
}

std::string p_text(double p) {
  if (!std::isfinite(p)) return kUnknown;
  return p < 0.001 ? "< 0.001" : fixed(p, 3);
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return kUnknown;
  if (seconds < 0.9995) return fixed(seconds * 1e3, seconds < 0.01 ? 1 : 0) + " ms";
  if (seconds < 99.95) return fixed(seconds, 1) + " s";
  const auto parts = [](double first, const char* big, double second, const char* small) {
    return grouped(first) + " " + big + " " + fixed(second, 0) + " " + small;
  };
  const double whole = std::round(seconds);
  if (whole < 3600) return parts(std::floor(whole / 60), "min", std::fmod(whole, 60), "s");
  const double minutes = std::round(seconds / 60);
  if (minutes < 48 * 60) return parts(std::floor(minutes / 60), "h", std::fmod(minutes, 60), "min");
  const double hours = std::round(seconds / 3600);
  return parts(std::floor(hours / 24), "d", std::fmod(hours, 24), "h");
}

std::string bytes_text(double bytes) {
  if (!std::isfinite(bytes)) return kUnknown;
  const double mib = bytes / (1 << 20);
  return mib < 1000 ? fixed(mib, mib < 10 ? 1 : 0) + " MiB" : fixed(mib / 1024, 1) + " GiB";
}

std::string counted(double n, const std::string& one, const std::string& several) {
  return grouped(n) + " " + (n == 1 ? one : several);
}

std::string listed(const std::vector<std::string>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " and " : ", ";
    out += words[i];
  }
  return out;
}

}  // namespace onpa::apps::report
