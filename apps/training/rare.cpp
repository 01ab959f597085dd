#include "apps/training/rare.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "apps/support/log.h"
#include "data/smogn.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace onpa::apps {
namespace {

std::uint64_t seed_of(const Config& config) {
  return static_cast<std::uint64_t>(config.train.seed);
}

void warn_if_nothing_is_rare(const std::vector<data::Bump>& bumps, const Config& config) {
  if (bumps.size() > 1) return;
  spdlog::warn(
      "data.rare={}: no train target is an outlier of the box plot, so none is rare and the train "
      "tracks stay as they are{}",
      config.data.rare,
      config.data.undersampled ? " (data.undersampled=false has those that undersampling removed)"
                               : "");
}

class RareItems {
 public:
  RareItems(const data::DataSet& data, const std::vector<std::int64_t>& rows, const Config& config)
      : rows_(rows),
        seed_(seed_of(config)),
        reach_(config.data.rare_neighbours),
        first_sample_(static_cast<std::uint64_t>(data.tracks.size())) {
    for (const std::int64_t row : rows) {
      targets_.push_back(data.tracks[static_cast<std::size_t>(row)].target);
    }
    bumps_ = data::bumps_of(targets_, config.data.rare_threshold);
  }

  const std::vector<data::Bump>& bumps() const { return bumps_; }

  std::vector<data::EpochItem> operator()(std::uint64_t epoch) const {
    std::vector<data::EpochItem> items;
    std::uint64_t sample = first_sample_;
    for (const data::Bump& bump : bumps_) {
      for (const std::int64_t place : chosen(bump, bump.balance.kept, 2 * epoch)) {
        items.push_back({row(place), static_cast<std::uint64_t>(row(place)), -1});
      }
      if (bump.balance.added(std::ssize(bump.members)) > 0)
        add_mixtures(bump, epoch, sample, items);
    }
    ONPA_CHECK(sample < (std::uint64_t{1} << 32), "rare clips: sample ", sample);
    return items;
  }

 private:
  std::int64_t row(std::int64_t place) const { return rows_[static_cast<std::size_t>(place)]; }

  std::vector<std::int64_t> chosen(const data::Bump& bump, std::int64_t count,
                                   std::uint64_t step) const {
    return data::choose(bump.members, count, rows_, seed_, kStreamRareClips, step);
  }

  void add_mixtures(const data::Bump& bump, std::uint64_t epoch, std::uint64_t& sample,
                    std::vector<data::EpochItem>& items) const {
    const std::vector<std::int64_t> order = by_target(bump, epoch);
    std::vector<std::int64_t> place_in_order(rows_.size());
    for (std::int64_t i = 0; i < std::ssize(order); ++i) {
      place_in_order[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = i;
    }
    const auto add = [&](std::int64_t place) {
      const std::int64_t at = place_in_order[static_cast<std::size_t>(place)];
      items.push_back({row(place), sample, partner(order, at, epoch, sample)});
      ++sample;
    };
    for (std::int64_t copy = 0; copy < bump.balance.repeats; ++copy) {
      for (const std::int64_t place : bump.members) add(place);
    }
    for (const std::int64_t place : chosen(bump, bump.balance.extra, 2 * epoch + 1)) add(place);
  }

  std::vector<std::int64_t> by_target(const data::Bump& bump, std::uint64_t epoch) const {
    struct Tied {
      double target, draw;
      std::int64_t place;
    };
    std::vector<Tied> tied;
    for (const std::int64_t place : bump.members) {
      Philox rng({seed_, kStreamRareTies, epoch, static_cast<std::uint64_t>(row(place))});
      tied.push_back({targets_[static_cast<std::size_t>(place)], rng.uniform(), place});
    }
    std::sort(tied.begin(), tied.end(), [](const Tied& a, const Tied& b) {
      return std::tie(a.target, a.draw, a.place) < std::tie(b.target, b.draw, b.place);
    });
    std::vector<std::int64_t> order;
    for (const Tied& t : tied) order.push_back(t.place);
    return order;
  }

  // A row near place `at` of the order, but for the one there; -1 if there is no other.
  std::int64_t partner(const std::vector<std::int64_t>& order, std::int64_t at, std::uint64_t epoch,
                       std::uint64_t sample) const {
    const std::int64_t low = std::max<std::int64_t>(at - reach_, 0);
    const std::int64_t high = std::min(at + reach_, std::ssize(order) - 1);
    if (high == low) return -1;
    Philox rng({seed_, kStreamRarePartner, epoch, sample});
    std::int64_t other = low + rng.below(static_cast<std::uint32_t>(high - low));
    if (other >= at) ++other;
    return row(order[static_cast<std::size_t>(other)]);
  }

  std::vector<std::int64_t> rows_;
  std::uint64_t seed_;
  std::int64_t reach_;
  std::uint64_t first_sample_;  // behind those that are tracks
  std::vector<double> targets_;
  std::vector<data::Bump> bumps_;
};

}  // namespace

DenseTable with_smogn(const DenseTable& table, const std::vector<std::int64_t>& rows,
                      const Config& config) {
  const std::int64_t columns = table.x.size(1);
  const data::SmognSet set = data::smogn(table.x.span<float>(), columns, table.y, rows,
                                         {.threshold = config.data.rare_threshold,
                                          .neighbours = config.data.rare_neighbours,
                                          .perturbation = config.data.rare_perturbation,
                                          .seed = seed_of(config)});
  std::vector<data::Bump> bumps;
  std::int64_t interpolated = 0;
  for (const data::SmognBump& bump : set.bumps) {
    bumps.push_back(bump.bump);
    interpolated += bump.interpolated;
  }
  warn_if_nothing_is_rare(bumps, config);
  spdlog::info("SMOGN: {} rows to {}, {} of them synthetic ({} interpolated, {} with noise); {}",
               rows.size(), set.kept.size() + set.y.size(), set.y.size(), interpolated,
               std::ssize(set.y) - interpolated, describe(bumps));
  DenseTable out;
  out.x = Tensor::empty({std::ssize(set.kept) + std::ssize(set.y), columns});
  float* x = out.x.data<float>();
  for (const std::int64_t row : set.kept) {
    x = std::copy_n(table.x.data<float>() + row * columns, columns, x);
    out.y.push_back(table.y[static_cast<std::size_t>(row)]);
  }
  std::copy(set.x.begin(), set.x.end(), x);
  out.y.insert(out.y.end(), set.y.begin(), set.y.end());
  return out;
}

std::function<std::vector<data::EpochItem>(std::uint64_t epoch)> rare_items(
    const data::DataSet& data, const std::vector<std::int64_t>& rows, const Config& config) {
  const auto items = std::make_shared<const RareItems>(data, rows, config);
  warn_if_nothing_is_rare(items->bumps(), config);
  spdlog::info("rare clips: {}", describe(items->bumps()));
  return [items](std::uint64_t epoch) { return (*items)(epoch); };
}

std::string describe(const std::vector<data::Bump>& bumps) {
  std::string out;
  for (const data::Bump& bump : bumps) {
    const std::int64_t members = std::ssize(bump.members);
    const std::int64_t added = bump.balance.added(members);
    out += fmt::format("{}{:.3g} to {:.3g}: {} tracks, {}, ", out.empty() ? "" : "; ", bump.low,
                       bump.high, members, bump.rare ? "rare" : "normal");
    out += added > 0 ? fmt::format("{} added", added) : fmt::format("{} kept", bump.balance.kept);
  }
  return out;
}

}  // namespace onpa::apps
