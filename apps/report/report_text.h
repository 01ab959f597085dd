// How the report spells numbers and what comes from data.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace onpa::apps::report {

/// Text for the inside of an HTML or SVG element or of a quoted attribute: & < > " ' as references,
/// control characters other than tab and newline, and bytes that are not UTF-8, as U+FFFD. So are
/// they in the next two.
std::string escape(std::string_view text);
/// Text for a cell of a Markdown table: nothing in it is markup, line breaks are spaces.
std::string escape_markdown(std::string_view text);
/// Printable in a file of one line a row.
std::string without_controls(std::string_view text);
/// For a shell: as it is if it is plain, else in single quotes.
std::string quote_for_shell(const std::string& word);
/// The first `most` characters (code points) and "…" if there are more.
std::string shortened(const std::string& text, std::size_t most);
std::string base64(std::string_view bytes);

/// "1,159,764"; "–" for what is not finite, here and below.
std::string grouped(double count);
/// Fixed digits; a negative sign is U+2212, there is no negative 0.
std::string fixed(double value, int digits);
/// The same with "+" before a positive number.
std::string with_sign(double value, int digits);
/// `digits` significant digits, never an exponent from 1e-6 to 1e6.
std::string significant(double value, int digits);
/// An error in target units: four digits, two significant ones where that would show 0.
std::string error_text(double value);
/// "< 0.001", "0.034".
std::string p_text(double p);
/// "42 ms", "10.8 s", "3 min 20 s", "2 h 21 min", "4 d 3 h".
std::string duration(double seconds);
/// "512 MiB", "1.3 GiB".
std::string bytes_text(double bytes);
/// "1 track", "5,812 tracks".
std::string counted(double n, const std::string& one, const std::string& several);
/// "a", "a and b", "a, b and c".
std::string listed(const std::vector<std::string>& words);

}  // namespace onpa::apps::report
