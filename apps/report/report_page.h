// The page that a reader sees.
#pragma once

#include <string>
#include <vector>

#include "apps/report/report_study.h"
#include "apps/report/report_tables.h"

namespace onpa::apps::report {

/// Every table that the page shows, those without rows left out.
std::vector<Table> report_tables(const Study& study);

/// A whole HTML document, UTF-8, which refers to nothing outside itself.
std::string report_page(const Study& study);

/// Inside of the page's style and script elements.
extern const char* const kStyle;
extern const char* const kScript;

/// The parts of the page that are plots, each with its heading; empty without data.
std::string genres_plots(const Study& study);
std::string curves_plots(const Study& study);
std::string popularity_plots(const Study& study);
std::string errors_plots(const Study& study);

}  // namespace onpa::apps::report
