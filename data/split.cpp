#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <string_view>
#include <unordered_map>

#include "data/dataset.h"
#include "data/table.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::data {
namespace {

// The random sequence that belongs to a track id, or to a group, under one seed.
Philox draws_of(const std::string& key, std::uint64_t seed, RngStream stream) {
  const std::uint64_t hash = XXH3_64bits(key.data(), key.size());
  return Philox({.seed = seed, .stream = stream, .step = hash >> 32, .sample = hash & 0xFFFFFFFFu});
}

// Linear interpolation between order statistics, as numpy.quantile.
double quantile_of(std::vector<std::int64_t> counts, double q) {
  std::sort(counts.begin(), counts.end());
  const double at = q * static_cast<double>(counts.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, counts.size() - 1);
  const double part = at - static_cast<double>(low);
  return static_cast<double>(counts[low]) + part * static_cast<double>(counts[high] - counts[low]);
}

std::int64_t cap_of(const std::vector<std::int64_t>& counts, const UndersampleRule& rule) {
  using Cap = UndersampleRule::Cap;
  switch (rule.cap) {
    case Cap::kMin:
      return static_cast<std::int64_t>(quantile_of(counts, 0));
    case Cap::kMedian:
      return static_cast<std::int64_t>(quantile_of(counts, 0.5));
    case Cap::kQuantile:
      return static_cast<std::int64_t>(quantile_of(counts, rule.quantile));
    case Cap::kCount:
      return rule.count;
    case Cap::kNone:
      break;
  }
  return *std::max_element(counts.begin(), counts.end());
}

// Popularity 100 belongs to the last full bin, not to one of its own.
std::int64_t bin_of(const Track& track, double width) {
  if (!(track.popularity >= 0 && track.popularity <= 100)) {
    fail(ExitCode::kBadData, "undersample: track \"", track.id, "\" has popularity ",
         track.popularity, ", want 0 to 100");
  }
  const auto last =
      std::max<std::int64_t>(static_cast<std::int64_t>(std::ceil(100 / width)) - 1, 0);
  return std::min(static_cast<std::int64_t>(track.popularity / width), last);
}

}  // namespace

void assign_split(std::vector<Track>& tracks, double train_fraction, std::uint64_t seed) {
  ONPA_CHECK(train_fraction >= 0 && train_fraction <= 1, "assign_split: train fraction ",
             train_fraction, ", want 0 to 1");
  for (Track& track : tracks) {
    const bool train = draws_of(track.group_key(), seed, kStreamSplit).uniform() < train_fraction;
    track.split = train ? Split::kTrain : Split::kTest;
  }
}

GroupSplit assign_group_split(std::vector<Track>& tracks, double train_fraction,
                              std::uint64_t seed) {
  ONPA_CHECK(train_fraction >= 0 && train_fraction <= 1, "assign_group_split: train fraction ",
             train_fraction, ", want 0 to 1");
  std::unordered_map<std::string_view, std::int64_t> sizes;
  for (const Track& track : tracks) ++sizes[track.group_key()];
  const auto all = static_cast<double>(tracks.size());
  const double large = all * (1 - train_fraction) / 2;
  GroupSplit done{.groups = std::ssize(sizes)};
  double kept = 0;
  for (const auto& [key, size] : sizes) {
    done.largest = std::max(done.largest, size);
    if (size == 1 || static_cast<double>(size) <= large) continue;
    ++done.kept_in_train;
    kept += static_cast<double>(size);
  }
  if (kept > train_fraction * all) {
    fail(ExitCode::kBadData, "split: ", done.kept_in_train, " groups hold ", kept, " of ", all,
         " tracks (the largest ", done.largest, "), so no split by groups can put ", train_fraction,
         " of them in train");
  }
  const double chance = kept < all ? (train_fraction * all - kept) / (all - kept) : 0;
  for (Track& track : tracks) {
    const std::int64_t size = sizes.at(track.group_key());
    const bool too_large = size > 1 && static_cast<double>(size) > large;
    const bool train =
        too_large || draws_of(track.group_key(), seed, kStreamSplit).uniform() < chance;
    track.split = train ? Split::kTrain : Split::kTest;
  }
  return done;
}

UndersampleRule parse_undersample(const std::string& text) {
  using Cap = UndersampleRule::Cap;
  if (text == "none") return {.cap = Cap::kNone};
  if (text == "min") return {.cap = Cap::kMin};
  if (text == "median") return {.cap = Cap::kMedian};
  double quantile = 0;
  if (text.starts_with('q') && parse_number(std::string_view(text).substr(1), quantile) &&
      quantile >= 0 && quantile <= 1) {
    return {.cap = Cap::kQuantile, .quantile = quantile};
  }
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error == std::errc{} && end == text.data() + text.size() && count >= 1) {
    return {.cap = Cap::kCount, .count = count};
  }
  fail(ExitCode::kConfig, "undersample: got \"", text,
       "\", want none, min, median, a quantile such as q0.25, or a count of at least 1");
}

std::int64_t undersample(std::vector<Track>& tracks, const UndersampleRule& rule,
                         std::uint64_t seed) {
  ONPA_CHECK(rule.bin_width > 0, "undersample: bin width ", rule.bin_width, ", want above 0");
  std::map<std::int64_t, std::vector<Track*>> bins;
  for (Track& track : tracks) {
    track.kept = true;
    if (track.split == Split::kTrain) bins[bin_of(track, rule.bin_width)].push_back(&track);
  }
  if (bins.empty()) return 0;
  std::vector<std::int64_t> counts;
  for (const auto& [bin, members] : bins) counts.push_back(std::ssize(members));
  const std::int64_t cap = cap_of(counts, rule);
  for (auto& [bin, members] : bins) {
    if (std::ssize(members) <= cap) continue;
    std::vector<std::pair<double, Track*>> drawn;
    for (Track* track : members) {
      drawn.emplace_back(draws_of(track->id, seed, kStreamUndersample).uniform(), track);
    }
    std::sort(drawn.begin(), drawn.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : a.second->id < b.second->id;
    });
    for (std::size_t i = static_cast<std::size_t>(cap); i < drawn.size(); ++i) {
      drawn[i].second->kept = false;
    }
  }
  return cap;
}

}  // namespace onpa::data
