// What `onpa bench` shows and writes.
#pragma once

#include <string>

#include "apps/benchmark/bench.h"

namespace onpa::apps {

/// For people: machine, limits, model, times and rates, then every op (profile_rows_text()). At
/// most 80 columns, but for long names.
std::string bench_text(const BenchResult& result);
/// One JSON object: what bench_text() shows with all digits, each step's time, the settings and the
/// environment. What is not known is null.
std::string bench_json(const BenchResult& result);

}  // namespace onpa::apps
