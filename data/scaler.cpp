#include <cmath>

#include "data/dataset.h"
#include "kernels/error.h"

namespace onpa::data {

Scaler Scaler::fit(const DataSet& data, std::span<const std::int64_t> rows) {
  if (rows.empty()) fail(ExitCode::kBadData, "scaler: no rows to fit on");
  const std::size_t columns = data.feature_names.size();
  const auto count = static_cast<double>(rows.size());
  Scaler scaler;
  for (std::size_t c = 0; c < columns; ++c) {
    const auto value = [&](std::int64_t row) -> double {
      return data.tracks[static_cast<std::size_t>(row)].features[c];
    };
    // Equal floats sum exactly in double (up to 2^29 of them), so a constant column has std 0.
    double sum = 0;
    for (const std::int64_t row : rows) sum += value(row);
    const double mean = sum / count;
    double squares = 0;
    for (const std::int64_t row : rows) squares += (value(row) - mean) * (value(row) - mean);
    const auto std = static_cast<float>(std::sqrt(squares / count));
    scaler.mean.push_back(static_cast<float>(mean));
    scaler.std.push_back(std > 0 ? std : 1.0f);
  }
  return scaler;
}

void Scaler::apply(std::span<const float> raw, std::span<float> scaled) const {
  ONPA_CHECK(raw.size() == mean.size() && scaled.size() == mean.size(), "scaler: ", raw.size(),
             " values to ", scaled.size(), ", want ", mean.size());
  for (std::size_t c = 0; c < mean.size(); ++c) scaled[c] = (raw[c] - mean[c]) / std[c];
}

}  // namespace onpa::data
