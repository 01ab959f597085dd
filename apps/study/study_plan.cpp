// What a study is going to do, and whether what is there already belongs to it.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>

#include "apps/study/study.h"
#include "apps/support/compute_device.h"
#include "apps/support/suggest.h"
#include "apps/training/start_weights.h"
#include "data/file.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

const std::vector<std::string> kModels = {"passt", "dense"};

std::vector<std::string> models_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string model = text.substr(begin, end - begin);
    if (std::find(kModels.begin(), kModels.end(), model) == kModels.end()) {
      fail(ExitCode::kConfig, "--models: no model '", model, "'", suggestion(model, kModels));
    }
    if (std::find(out.begin(), out.end(), model) == out.end()) out.push_back(model);
    begin = end + 1;
  }
  // Audio first wherever both stand.
  std::sort(out.begin(), out.end(), std::greater<>());
  return out;
}

Config config_of(const StudyArgs& args, const std::string& model, const StartWeights* start,
                 const std::vector<std::string>& more = {}) {
  const ConfigArgs& given = model == "dense" ? args.dense : args.passt;
  std::vector<std::string> set;
  if (args.seed) set.push_back("train.seed=" + std::to_string(*args.seed));
  set.insert(set.end(), given.set.begin(), given.set.end());
  set.insert(set.end(), more.begin(), more.end());
  std::vector<std::string> chosen;
  Config config = load_config(model, given.file, set, &chosen);
  if (start != nullptr && model == "passt") config = start->fit(config, chosen).config;
  // An epoch of Dense takes less time than to write its checkpoint; what is stopped has one anyway.
  if (model == "dense" && config.train.checkpoint_epochs == 1) config.train.checkpoint_epochs = 0;
  return config;
}

struct Variant {
  std::string name, model;
  std::vector<std::string> settings;
};

// "NAME=MODEL:key=value,key=value"; what follows a comma and has no '=' belongs to the value
// before.
Variant parse_variant(const std::string& text) {
  const std::size_t equals = text.find('='), colon = text.find(':', std::min(equals, text.size()));
  if (equals == std::string::npos || equals == 0 || colon == std::string::npos) {
    fail(ExitCode::kConfig, "--variant ", text, ": want NAME=MODEL:key=value,key=value");
  }
  Variant out{.name = text.substr(0, equals),
              .model = text.substr(equals + 1, colon - equals - 1),
              .settings = {}};
  for (std::size_t begin = colon + 1; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    if (part.find('=') == std::string::npos && !out.settings.empty()) {
      out.settings.back() += "," + part;
    } else {
      out.settings.push_back(part);
    }
    begin = end + 1;
  }
  return out;
}

// Samples that a model learns from in all.
double work_of(const data::DataSet& data, const Scope& scope, const std::string& model,
               const Config& config) {
  const auto counts = [&](const data::Track& track) {
    return track.split == data::Split::kTrain && (model == "dense" || !track.audio.empty());
  };
  std::int64_t samples = 0;
  if (scope.all) {
    samples =
        std::ranges::count_if(data.tracks, [&](const auto& t) { return t.kept && counts(t); });
  }
  for (const std::int64_t row : scope.rows) {
    samples += counts(data.tracks[static_cast<std::size_t>(row)]);
  }
  double work = static_cast<double>(samples) * static_cast<double>(config.train.epochs);
  if (config.train.max_steps > 0) {
    work = std::min(work, static_cast<double>(config.train.max_steps * config.train.batch_size *
                                              config.train.accumulate));
  }
  return work;
}

class Planner {
 public:
  Planner(const StudyArgs& args, const data::DataSet& data) : args_(args), data_(data) {
    plan_.folder.root = args.out;
    plan_.models = models_of(args.models);
    if (!args.init_from.empty()) {
      if (std::ranges::find(plan_.models, "passt") == plan_.models.end()) {
        fail(ExitCode::kConfig, "--init-from: no passt among the models, which it is for");
      }
      start_ = std::make_unique<StartWeights>(args.init_from, args.init_set);
      plan_.start_hash = start_->hash();
    }
    for (const std::string& model : plan_.models) plan_.configs[model] = settings(model);
  }

  StudyPlan plan() {
    std::vector<std::string> left_out;
    const bool audio = plan_.configs.contains("passt");
    plan_.scopes = study_scopes(
        data_, {.genres = args_.genres, .min_tracks = args_.min_tracks, .audio = audio}, left_out);
    plan_.left_out = left_out;
    for (std::size_t s = 0; s < plan_.scopes.size(); ++s) {
      for (const std::string& model : plan_.models) add(s, model, {});
    }
    std::set<std::string> names;
    for (const std::string& text : args_.variants) {
      const Variant variant = parse_variant(text);
      if (!plan_.configs.contains(variant.model)) {
        fail(ExitCode::kConfig, "--variant ", text, ": '", variant.model,
             "' is no model of this study", suggestion(variant.model, plan_.models));
      }
      if (!names.insert(variant.model + "-" + slug_of(variant.name)).second) {
        fail(ExitCode::kConfig, "--variant ", text, ": its name is taken");
      }
      add(0, variant.model, variant);
    }
    return std::move(plan_);
  }

 private:
  Config settings(const std::string& model, const std::vector<std::string>& more = {}) const {
    return config_of(args_, model, start_.get(), more);
  }

  void add(std::size_t s, const std::string& model, const Variant& variant) {
    const Scope& scope = plan_.scopes[s];
    const std::string folder = variant.name.empty() ? model : model + "-" + slug_of(variant.name);
    Cell cell;
    cell.scope = s;
    cell.model = model;
    cell.variant = variant.name;
    cell.settings = variant.settings;
    cell.name = model + (variant.name.empty() ? "" : " (" + variant.name + ")") + ", " + scope.name;
    cell.key = scope.slug + "_" + folder;
    cell.config =
        variant.name.empty() ? plan_.configs.at(model) : settings(model, variant.settings);
    cell.data = scope.all ? std::filesystem::path(args_.data) : plan_.folder.data(scope.slug);
    cell.run = plan_.folder.run(scope.slug, folder);
    if (model == "passt") {
      cell.init_from = args_.init_from;
      cell.init_set = args_.init_set;
    }
    if (args_.from == "all-data" && !scope.all) {
      cell.init_from = plan_.folder.run(plan_.scopes.front().slug, model);
      cell.init_set.clear();
    }
    cell.work = work_of(data_, scope, model, cell.config);
    plan_.cells.push_back(std::move(cell));
  }

  const StudyArgs& args_;
  const data::DataSet& data_;
  std::unique_ptr<StartWeights> start_;
  StudyPlan plan_;
};

}  // namespace

StudyPlan plan_study(const StudyArgs& args, const data::DataSet& data) {
  const auto no_audio = [](const data::Track& track) { return track.audio.empty(); };
  if (args.models.find("passt") != std::string::npos &&
      std::ranges::all_of(data.tracks, no_audio)) {
    fail(ExitCode::kConfig, args.data,
         ": no track has audio, which passt learns from; see onpa prepare --audio, or take "
         "--models dense");
  }
  return Planner(args, data).plan();
}

}  // namespace onpa::apps
