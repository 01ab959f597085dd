#include "apps/report/report_answer.h"

#include <algorithm>
#include <cmath>

#include "apps/report/report_text.h"

namespace onpa::apps::report {
namespace {

constexpr std::size_t kNamedGenres = 5;  // more are counted

std::string capital(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 32);
  return text;
}

// "the waveform (PaSST)"
std::string input_and_model(const std::string& model) {
  const std::string input = input_of(model);
  return input == model ? model : input + " (" + model_name(model) + ")";
}

std::string points(const Study& study, double error) {
  const double value = std::abs(study.points(error));
  const bool lost = value != 0 && value < 0.05;
  return (lost ? significant(value, 2) : fixed(value, 2)) + " popularity points";
}

std::string interval_text(const Study& study, Interval interval) {
  return study.level() + " interval " + error_text(interval.low) + " to " +
         error_text(interval.high);
}

// The difference of all data, without interval if the study has none.
std::optional<Difference> overall(const Study& study) {
  const Cell* passt = study.all().done("passt");
  const Cell* dense = study.all().done("dense");
  if (passt == nullptr || dense == nullptr) return {};
  if (study.all().difference && std::isfinite(study.all().difference->mae)) {
    return study.all().difference;
  }
  const double mae = dense->errors.mae - passt->errors.mae;
  if (!std::isfinite(mae)) return {};
  return Difference{.mae = mae, .interval = {}, .p = kUnknown};
}

// As an advantage of the better model: positive, low to high.
Interval advantage(const Difference& d) {
  if (!d.interval.known()) return {};
  if (d.mae >= 0) return d.interval;
  return {-d.interval.high, -d.interval.low};
}

std::string order_sentence(const Study& study, const Difference& d) {
  const std::string better = d.mae >= 0 ? "passt" : "dense";
  const std::string other = d.mae >= 0 ? "dense" : "passt";
  const std::string tracks = counted(study.all().test, "test track", "test tracks");
  const Interval interval = advantage(d);
  if (d.mae == 0) {
    return "Neither input is better: over " + tracks +
           " the mean absolute errors of PaSST (waveform) and Dense (features) are equal" +
           (interval.known() ? " (" + interval_text(study, interval) + ")." : ".");
  }
  const std::string lower = error_text(std::abs(d.mae)) + " lower than that of ";
  if (!interval.known()) {
    return capital(input_and_model(better)) + " had the lower mean absolute error over " + tracks +
           ", by " + error_text(std::abs(d.mae)) + " or " + points(study, d.mae) +
           ", but there is no interval for this difference, so it may be chance.";
  }
  if (!d.excludes_zero()) {
    return "These data do not settle which input is better: over " + tracks +
           " the mean absolute error of " + model_name(better) + " (" + input_of(better).substr(4) +
           ") is " + lower + model_name(other) + " (" + input_of(other).substr(4) + "), " +
           points(study, d.mae) + ", and the " + interval_text(study, interval) + " contains 0.";
  }
  return capital(input_of(better)) + (better == "passt" ? " predicts" : " predict") +
         " popularity better than " + input_of(other) + ": over " + tracks +
         " the mean absolute error of " + model_name(better) + " is " + lower + model_name(other) +
         ", " + points(study, d.mae) + ", and the " + interval_text(study, interval) +
         " excludes 0.";
}

// "12 % " and one of the words; "the same" where that would be 0.0.
std::string relative(double value, double reference, const char* less, const char* more) {
  const double percent = 100 * (value - reference) / reference;
  if (!std::isfinite(percent)) return "at an unknown distance";
  const std::string size = fixed(std::abs(percent), std::abs(percent) < 9.95 ? 1 : 0);
  return size == "0.0" ? "the same" : size + "\u00a0% " + (percent < 0 ? less : more);
}

std::string constant_clause(const Study& study, const std::vector<std::string>& models) {
  const auto constant = study.all().baselines.find("constant mean");
  if (constant == study.all().baselines.end() || !std::isfinite(constant->second.mae)) {
    return "the error of always predicting the mean is not known";
  }
  const double mae = constant->second.mae;
  std::vector<std::string> parts;
  for (const std::string& model : models) {
    const Cell& cell = *study.all().done(model);
    std::string part =
        "that of " + model_name(model) + " is " + relative(cell.errors.mae, mae, "lower", "higher");
    if (cell.mae_interval.holds(mae)) part += ", within its interval";
    parts.push_back(part);
  }
  std::string text = "always predicting the mean has an error of " + error_text(mae);
  if (!parts.empty()) text += "; " + listed(parts);
  return text;
}

std::string floor_clause(const Study& study, const std::vector<std::string>& models) {
  std::vector<std::string> lowest, above;
  for (const std::string& model : models) {
    const auto found = study.floors.find(model);
    if (found == study.floors.end() || !std::isfinite(found->second.mae)) continue;
    const double floor = found->second.mae;
    lowest.push_back(error_text(floor) + " from " + input_of(model));
    above.push_back(model_name(model) + " is " +
                    relative(study.all().done(model)->errors.mae, floor, "below it", "above it"));
  }
  if (lowest.empty()) return "";
  return "; the lowest error that is possible is " + listed(lowest) + ": " + listed(above);
}

std::string flip_clause(const Study& study) {
  const double genres = static_cast<double>(compared_genres(study).size());
  if (genres == 0) return "; no genre has both models to compare";
  const std::vector<Flip> flipped = flips(study);
  const std::string of = " of " + counted(genres, "genre", "genres");
  if (flipped.empty()) {
    return "; the order of the two is the other way round in none" + of;
  }
  std::vector<std::string> names, certain;
  for (const Flip& flip : flipped) {
    if (names.size() < kNamedGenres) names.push_back(flip.genre);
    if (flip.difference.excludes_zero()) certain.push_back(flip.genre);
  }
  if (flipped.size() > kNamedGenres) {
    names.push_back(counted(static_cast<double>(flipped.size() - kNamedGenres), "other", "others"));
  }
  std::string text = "; the order of the two is the other way round in " +
                     grouped(static_cast<double>(flipped.size())) + of + " (" + listed(names) +
                     "), with an interval that excludes 0 in ";
  if (certain.empty()) return text + "none of them";
  if (certain.size() == flipped.size()) {
    return text + (certain.size() == 1 ? "that genre" : "all of them");
  }
  if (certain.size() > kNamedGenres) {
    return text + grouped(static_cast<double>(certain.size())) + " of them";
  }
  return text + listed(certain);
}

// One model is done, or none.
std::vector<std::string> lone_answer(const Study& study) {
  std::vector<std::string> done, missing;
  for (const std::string& model : study.models) {
    if (const Cell* cell = study.all().done(model);
        cell != nullptr && std::isfinite(cell->errors.mae)) {
      done.push_back(model);
    } else {
      missing.push_back(model_name(model));
    }
  }
  std::string first;
  if (done.empty()) {
    first = "There is no answer yet: no model has a result on all data.";
  } else {
    const Cell& cell = *study.all().done(done.front());
    first = "This study does not compare the inputs: of the two only " +
            input_and_model(done.front()) + " has a result, a mean absolute error of " +
            error_text(cell.errors.mae) + " or " + points(study, cell.errors.mae) + " over " +
            counted(study.all().test, "test track", "test tracks");
    if (cell.mae_interval.known()) first += ", " + interval_text(study, cell.mae_interval);
    first += missing.empty() ? "." : "; " + listed(missing) + " has none.";
  }
  return {first, capital(constant_clause(study, done)) + floor_clause(study, done) + "."};
}

bool has_setting(const Variant& variant, const std::string& setting) {
  return std::find(variant.settings.begin(), variant.settings.end(), setting) !=
         variant.settings.end();
}

// "0.0012 higher"
std::string change_text(double change) {
  if (!std::isfinite(change)) return "changed by an unknown amount";
  if (change == 0) return "the same";
  return error_text(std::abs(change)) + (change < 0 ? " lower" : " higher");
}

std::string natural_and_balanced(double natural, double balanced) {
  return "the natural MAE is " + change_text(natural) + " and the bin-balanced MAE " +
         change_text(balanced);
}

std::string change_of(const Study& study, const Variant& variant) {
  const Cell* plain = study.all().done(variant.model);
  const std::string name = variant.name + " (" + model_name(variant.model) +
                           (variant.settings.empty() ? "" : ", " + listed(variant.settings)) + ")";
  if (!variant.cell.done) return name + " did not finish.";
  if (has_setting(variant, "data.permute_targets=true")) {
    const double r2 = variant.cell.errors.r2;
    return name + " is a control: trained on shuffled targets it has R² " + fixed(r2, 3) +
           (r2 > 0.02 ? ", which is skill that it cannot have: look for a leak."
                      : ", no skill, as it should be.");
  }
  if (plain == nullptr) return name + " has no plain run beside it to be compared with.";
  const double natural = variant.cell.errors.mae - plain->errors.mae;
  const double balanced = variant.cell.balanced.mae - plain->balanced.mae;
  if (has_setting(variant, "data.undersampled=false")) {
    std::string text = "Undersampling, for " + model_name(variant.model) + ": with it " +
                       natural_and_balanced(-natural, -balanced) + " than without (" +
                       variant.name + ")";
    if (-natural >= 0 && -balanced <= 0) {
      text += ", the exchange that it is made for.";
    } else if (std::isfinite(natural) && std::isfinite(balanced)) {
      text += ", which is not the exchange that it is made for (bin-balanced down, natural up).";
    } else {
      text += ".";
    }
    return text;
  }
  std::string text = name + ": " + natural_and_balanced(natural, balanced) + " than of plain " +
                     model_name(variant.model);
  if (variant.difference && variant.difference->interval.known()) {
    text += variant.difference->excludes_zero()
                ? "; the interval of the natural difference excludes 0"
                : "; the interval of the natural difference contains 0";
  }
  return text + ".";
}

}  // namespace

std::vector<const Scope*> compared_genres(const Study& study) {
  std::vector<const Scope*> out;
  for (std::size_t i = 1; i < study.scopes.size(); ++i) {
    const Scope& scope = study.scopes[i];
    const Cell* passt = scope.done("passt");
    const Cell* dense = scope.done("dense");
    if (passt == nullptr || dense == nullptr) continue;
    if (std::isfinite(passt->errors.mae) && std::isfinite(dense->errors.mae)) {
      out.push_back(&scope);
    }
  }
  return out;
}

std::vector<Flip> flips(const Study& study) {
  const std::optional<Difference> all = overall(study);
  std::vector<Flip> out;
  if (!all || all->mae == 0) return out;
  for (const Scope* scope : compared_genres(study)) {
    Difference d = scope->difference.value_or(Difference{});
    if (!std::isfinite(d.mae))
      d.mae = scope->done("dense")->errors.mae - scope->done("passt")->errors.mae;
    if (d.mae * all->mae < 0) out.push_back({scope->name, d});
  }
  std::stable_sort(out.begin(), out.end(), [](const Flip& a, const Flip& b) {
    return std::abs(a.difference.mae) > std::abs(b.difference.mae);
  });
  return out;
}

std::vector<std::string> answer(const Study& study) {
  const std::optional<Difference> d = overall(study);
  if (!d) return lone_answer(study);
  const std::vector<std::string> models = {"passt", "dense"};
  return {order_sentence(study, *d), capital(constant_clause(study, models)) +
                                         floor_clause(study, models) + flip_clause(study) + "."};
}

std::vector<std::string> cautions(const Study& study) {
  std::vector<std::string> out;
  if (study.all().test < 200) {
    out.push_back("Only " + counted(study.all().test, "test track", "test tracks") +
                  ": intervals of so few are rough themselves.");
  }
  double genres = 0, apart = 0;
  for (const Scope* scope : compared_genres(study)) {
    genres += 1;
    apart += scope->difference && scope->difference->excludes_zero() ? 1 : 0;
  }
  const double level = std::isfinite(study.confidence) ? study.confidence : 0.95;
  if (genres >= 10) {
    out.push_back("The intervals of " + grouped(genres) +
                  " genres are looked at side by side: if the "
                  "models were equal everywhere, about " +
                  fixed((1 - level) * genres, 0) + " would exclude 0 by chance; " + grouped(apart) +
                  " do.");
  }
  return out;
}

std::vector<std::string> changes(const Study& study) {
  std::vector<std::string> out;
  const Scope& all = study.all();
  if (std::isfinite(all.train) && std::isfinite(all.train_kept)) {
    out.push_back(all.train_kept < all.train
                      ? "Undersampling kept " + grouped(all.train_kept) + " of " +
                            counted(all.train, "train track", "train tracks") +
                            "; the test tracks keep their natural distribution."
                      : "No train track was removed by undersampling.");
  }
  for (const std::string& model : study.models) {
    const Cell* cell = all.done(model);
    if (cell == nullptr || !std::isfinite(cell->balanced.mae)) continue;
    out.push_back(model_name(model) + ": natural MAE " + error_text(cell->errors.mae) +
                  ", bin-balanced MAE " + error_text(cell->balanced.mae) + " over " +
                  counted(cell->balanced.bins, "popularity bin", "popularity bins") + ".");
  }
  for (const Variant& variant : study.variants) out.push_back(change_of(study, variant));
  return out;
}

}  // namespace onpa::apps::report
