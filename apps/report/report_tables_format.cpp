#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/report/report_tables.h"
#include "apps/report/report_text.h"
#include "data/table.h"

namespace onpa::apps::report {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kJoulesPerKilowattHour = 3.6e6;

std::string shown_number(Shown shown, double value) {
  switch (shown) {
    case Shown::kText:
    case Shown::kCount:
      return grouped(value);
    case Shown::kError:
      return fixed(value, 4);
    case Shown::kSignedError:
      return with_sign(value, 4);
    case Shown::kRatio:
      return fixed(value, 3);
    case Shown::kPoints:
      return fixed(value, std::abs(value - std::round(value)) < 1e-4 ? 0 : 1);
    case Shown::kHours:
      return significant(value, 3);
    case Shown::kDuration:
      return duration(value);
    case Shown::kBytes:
      return bytes_text(value);
    case Shown::kEnergy:
      return std::isfinite(value) ? significant(value / kJoulesPerKilowattHour, 3) + " kWh"
                                  : fixed(value, 0);
    case Shown::kP:
      return p_text(value);
  }
  return "";
}

std::string shown_value(const Column& column, const Value& value) {
  return value.is_text ? value.text : shown_number(column.shown, value.number);
}

// "0.102 to 0.110"; empty if it is not known.
std::string shown_interval(const Table& table, std::size_t row, std::size_t column) {
  const double low = table.rows[row][column + 1].number;
  const double high = table.rows[row][column + 2].number;
  if (!std::isfinite(low) || !std::isfinite(high)) return "";
  const Shown shown = table.columns[column].shown;
  return shown_number(shown, low) + " to " + shown_number(shown, high);
}

// Columns that have a cell of their own: the ends of intervals have not.
std::vector<std::size_t> shown_columns(const Table& table) {
  std::vector<std::size_t> out;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    out.push_back(c);
    if (table.columns[c].has_interval) c += 2;
  }
  return out;
}

std::string plain_number(double value) {
  if (!std::isfinite(value)) return "";
  std::array<char, 64> text;
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  std::snprintf(text.data(), text.size(), whole ? "%.0f" : "%.8g", value);
  return text.data();
}

// "n" for numbers, "g" where a group begins.
std::string cell_class(const Table& table, std::size_t c) {
  const Column& column = table.columns[c];
  std::string names = column.shown == Shown::kText ? "" : "n";
  if (c > 0 && !column.group.empty() && table.columns[c - 1].group != column.group) {
    names += names.empty() ? "g" : " g";
  }
  return names.empty() ? "" : " class=\"" + names + "\"";
}

std::string heading_cell(const Table& table, std::size_t c) {
  const std::string text = escape(table.columns[c].heading);
  return "<th scope=\"col\"" + cell_class(table, c) + ">" +
         (table.sortable ? "<button type=\"button\">" + text + "</button>" : text) + "</th>";
}

std::string html_head(const Table& table, const std::vector<std::size_t>& columns) {
  bool groups = false;
  for (const Column& column : table.columns) groups |= !column.group.empty();
  if (!groups) {
    std::string row = "<tr>";
    for (const std::size_t c : columns) row += heading_cell(table, c);
    return "<thead>" + row + "</tr></thead>\n";
  }
  std::string above = "<tr class=\"groups\">", below = "<tr>";
  for (std::size_t i = 0; i < columns.size();) {
    const std::string& group = table.columns[columns[i]].group;
    std::size_t end = i;
    while (end < columns.size() && table.columns[columns[end]].group == group) ++end;
    const std::string span = std::to_string(end - i);
    above += group.empty()
                 ? "<td colspan=\"" + span + "\"></td>"
                 : "<th scope=\"colgroup\" colspan=\"" + span + "\">" + escape(group) + "</th>";
    for (; i < end; ++i) below += heading_cell(table, columns[i]);
  }
  return "<thead>" + above + "</tr>" + below + "</tr></thead>\n";
}

std::string html_row(const Table& table, std::size_t r, const std::vector<std::size_t>& columns) {
  const bool mark = r < table.marked.size() && table.marked[r];
  std::string out = mark ? "<tr class=\"mark\">" : "<tr>";
  for (const std::size_t c : columns) {
    const Column& column = table.columns[c];
    const std::string text = escape(shown_value(column, table.rows[r][c]));
    if (c == 0) {
      out += "<th scope=\"row\"" + cell_class(table, c) + "><bdi>" + text + "</bdi></th>";
      continue;
    }
    if (column.shown == Shown::kText) {
      out += "<td" + cell_class(table, c) + "><bdi>" + text + "</bdi></td>";
      continue;
    }
    out += "<td" + cell_class(table, c);
    if (table.sortable) out += " data-v=\"" + plain_number(table.rows[r][c].number) + "\"";
    out += ">" + text;
    const std::string interval = column.has_interval ? shown_interval(table, r, c) : "";
    if (!interval.empty()) out += " <small>" + interval + "</small>";
    out += "</td>";
  }
  return out + "</tr>\n";
}

}  // namespace

std::string table_html(const Table& table) {
  const std::vector<std::size_t> columns = shown_columns(table);
  const std::string title = escape(table.title);
  // The title stays in sight when a wide table is moved sideways.
  std::string out = "<h3 class=\"over-table\">" + title +
                    "</h3>\n<div class=\"wide\" tabindex=\"0\" " + "role=\"region\" aria-label=\"" +
                    title + "\"><table aria-label=\"" + title + "\"" +
                    (table.sortable ? " class=\"sortable\"" : "") + ">\n" +
                    html_head(table, columns) + "<tbody>\n";
  for (std::size_t r = 0; r < table.rows.size(); ++r) out += html_row(table, r, columns);
  return out + "</tbody></table></div>\n";
}

std::string table_markdown(const Table& table) {
  const std::vector<std::size_t> columns = shown_columns(table);
  std::string out = "**" + escape_markdown(table.title) + "**\n\n|", rule = "|";
  for (const std::size_t c : columns) {
    const Column& column = table.columns[c];
    const std::string group = column.group.empty() ? "" : column.group + " ";
    out += " " + escape_markdown(group + column.heading) + " |";
    rule += column.shown == Shown::kText ? "---|" : "---:|";
  }
  out += "\n" + rule + "\n";
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    out += "|";
    for (const std::size_t c : columns) {
      std::string text = shown_value(table.columns[c], table.rows[r][c]);
      const std::string interval = table.columns[c].has_interval ? shown_interval(table, r, c) : "";
      if (!interval.empty()) text += " (" + interval + ")";
      out += " " + escape_markdown(text) + " |";
    }
    out += "\n";
  }
  return out;
}

std::string table_csv(const Table& table) {
  std::vector<std::string> cells;
  for (const Column& column : table.columns) cells.push_back(column.key);
  std::string out = data::csv_line(cells);
  for (const std::vector<Value>& row : table.rows) {
    cells.clear();
    for (const Value& value : row) {
      cells.push_back(value.is_text ? without_controls(value.text) : plain_number(value.number));
    }
    out += data::csv_line(cells);
  }
  return out;
}

std::string table_json(const Table& table) {
  Json columns = Json::object(), rows = Json::array();
  for (const Column& column : table.columns) {
    columns[column.key] = (column.group.empty() ? "" : column.group + " ") + column.heading;
  }
  for (const std::vector<Value>& row : table.rows) {
    Json object = Json::object();
    for (std::size_t c = 0; c < row.size(); ++c) {
      Json& cell = object[table.columns[c].key];
      if (row[c].is_text) {
        cell = row[c].text;
      } else if (std::isfinite(row[c].number)) {
        cell = row[c].number;
      }
    }
    rows.push_back(object);
  }
  const Json json = {
      {"name", table.name}, {"title", table.title}, {"columns", columns}, {"rows", rows}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace onpa::apps::report
