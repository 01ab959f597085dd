// SMOGN: a training set for regression in which rare targets are no longer rare. Source: Branco,
// Torgo, Ribeiro, "SMOGN: a Pre-processing Approach for Imbalanced Regression", PMLR 74, 2017.
// Parity: UBL::SMOGNRegress(C.perc = "balance", dist = "Euclidean", repl = FALSE) on numeric
// columns; docs/rare_targets.md lists the differences.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/relevance.h"

namespace onpa::data {

struct SmognOptions {
  double threshold = 0.5;       // relevance from which on a target is rare; (0, 1]
  std::int64_t neighbours = 5;  // >= 1
  double perturbation = 0.02;   // largest noise, in standard deviations of the bump
  std::uint64_t seed = 0;
};

/// Up to so many rows of a bump the median distance of a row is that to all rows (itself among
/// them, as in UBL); in a larger bump it is that to this many, the same ones for all its rows.
inline constexpr std::int64_t kMedianRows = 2048;

/// How a synthetic row was made: between `seed_row` and `neighbour`, at `weight` in [0, 1) of the
/// way, or by noise around `seed_row` (neighbour -1) of `weight` standard deviations.
struct SmognOrigin {
  std::int64_t seed_row = 0, neighbour = -1;
  double weight = 0;
};

struct SmognBump {
  Bump bump;
  std::int64_t interpolated = 0, noisy = 0;  // synthetic rows by how they were made
};

struct SmognSet {
  std::vector<std::int64_t> kept;  // input rows that stay, ascending
  // Synthetic rows, by bump and seed row: features (count, columns), targets and origins.
  std::vector<float> x;
  std::vector<double> y;
  std::vector<SmognOrigin> origins;
  std::vector<SmognBump> bumps;  // ascending in the target
};

/// `x` (n, columns) row-major; distances are Euclidean on it as it is, so it should be
/// standardised. `y` (n). Each bump of y is brought to its balanced size: a large one by leaving
/// out a random choice of rows, a small one by synthetic rows. A synthetic row has a seed row and a
/// neighbour drawn from the nearest of the seed row's bump. Nearer than half the median distance of
/// the seed row it lies between the two in x and, by inverse distance, in y; else it is the seed
/// row with normal noise in x and y, of the bump's standard deviations (ddof 1) times
/// min(perturbation, half the median distance). A bump of one row is repeated.
///
/// Draws depend on (seed, `keys[row]`, number of the copy): n distinct numbers below 2^32. The set
/// does not depend on the number of threads. With one bump all rows stay and there is nothing else.
/// Throws Error (kBadData) without rows or for a value that is not finite.
SmognSet smogn(std::span<const float> x, std::int64_t columns, std::span<const double> y,
               std::span<const std::int64_t> keys, const SmognOptions& options);

}  // namespace onpa::data
