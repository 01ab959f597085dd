#include "apps/study/demo.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "apps/study/metrics.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

const ModelResult& result_of(const std::vector<ModelResult>& results, const std::string& model) {
  for (const ModelResult& result : results) {
    if (result.model == model) return result;
  }
  fail(ExitCode::kInternal, "demo: no result of ", model);
}

const Table1Row& row_of(const Table1& table, const std::string& model) {
  for (const Table1Row& row : table.rows) {
    if (row.model == model) return row;
  }
  fail(ExitCode::kInternal, "demo: table 1 has no row ", model);
}

// |dense error| - |passt error| over the tracks that both predicted, of one genre ("": all).
PairedDifference dense_minus_passt(const data::DataSet& data,
                                   const std::vector<ModelResult>& results,
                                   const std::string& genre) {
  std::map<std::int64_t, double> passt;
  for (const TrackPrediction& p : result_of(results, "passt").predictions) {
    passt[p.row] = static_cast<double>(p.prediction) - p.target;
  }
  std::vector<double> dense_errors, passt_errors;
  for (const TrackPrediction& p : result_of(results, "dense").predictions) {
    const auto other = passt.find(p.row);
    if (other == passt.end()) continue;
    const auto genres = data.tracks[static_cast<std::size_t>(p.row)].genres();
    if (!genre.empty() && std::find(genres.begin(), genres.end(), genre) == genres.end()) continue;
    dense_errors.push_back(static_cast<double>(p.prediction) - p.target);
    passt_errors.push_back(other->second);
  }
  if (dense_errors.empty()) return {};
  return bootstrap_mae_difference(dense_errors, passt_errors, 1);
}

std::string interval(const PairedDifference& d) {
  return fmt::format("{:+.4f}, 95 % interval {:+.4f} to {:+.4f}", d.mean, d.low, d.high);
}

}  // namespace

DemoPlan demo_plan(const DemoArgs& args) {
  DemoPlan plan;
  plan.folder = args.full && args.out == "demo" ? "demo-full" : args.out;
  plan.full = args.full;
  plan.corpus.tracks = args.full ? 20000 : 2500;
  plan.corpus.seed = args.seed;
  if (args.full) {
    plan.bounds.dense_rmse = 1.05 * analytic_floors().dense_rmse;
    plan.bounds.passt_rmse = 0.090;
    plan.bounds.planted_order = true;
  }
  const std::string seed = "train.seed=" + std::to_string(args.seed);
  plan.dense_settings = {"train.batch_size=512",
                         "train.lr=1e-3",
                         "schedule.kind=cosine",
                         "train.eval_epochs=0",
                         "train.checkpoint_epochs=0",
                         std::string("train.epochs=") + (args.full ? "10" : "20"),
                         seed};
  // Patchout of columns alone: they are alike in these clips; only the top row shows the energy.
  plan.passt_settings = {
      "model.preset=passt-xs",
      "data.seconds=1",
      "train.batch_size=32",
      "train.lr=2e-3",
      "schedule.kind=cosine",
      std::string("schedule.warmup_epochs=") + (args.full ? "1" : "2"),
      "optim.weight_decay=0.01",
      "optim.clip_norm=1",
      "train.patchout_time=10",
      "train.patchout_freq=0",
      "train.eval_epochs=0",
      "train.checkpoint_epochs=5",
      std::string("train.epochs=") + (args.full ? "10" : "40"),
      "loader.cache_folder=" + std::filesystem::absolute(plan.folder / "cache").string(),
      seed};
  return plan;
}

std::vector<DemoCheck> demo_checks(const data::DataSet& data,
                                   const std::vector<ModelResult>& results, const Floors& floors,
                                   const DemoBounds& bounds) {
  const Table1 table = make_table1(data, results);
  const double dense = row_of(table, "dense").metrics.rmse;
  const double passt = row_of(table, "passt").metrics.rmse;
  const double constant = row_of(table, "constant mean").metrics.rmse;
  const double linear = row_of(table, "linear").metrics.rmse;
  std::vector<DemoCheck> checks;
  if (bounds.dense_rmse) {
    checks.push_back(
        {fmt::format("dense is near the floor that its features set: RMSE at most {:.3f}",
                     *bounds.dense_rmse),
         dense <= *bounds.dense_rmse,
         fmt::format("RMSE {:.4f}; floor {:.4f}, {:.4f} on these test tracks", dense,
                     analytic_floors().dense_rmse, floors.dense_rmse)});
  }
  if (bounds.passt_rmse) {
    checks.push_back({fmt::format("passt hears what the features do not hold: RMSE below {:.3f}",
                                  *bounds.passt_rmse),
                      passt < *bounds.passt_rmse,
                      fmt::format("RMSE {:.4f}; floor {:.4f}, {:.4f} on these test tracks", passt,
                                  analytic_floors().passt_rmse, floors.passt_rmse)});
  }
  checks.push_back({"both are below the constant and the linear baseline",
                    std::max(dense, passt) < std::min(constant, linear),
                    fmt::format("RMSE {:.4f} and {:.4f}; baselines {:.4f} and {:.4f}", passt, dense,
                                constant, linear),
                    bounds.baselines});
  const PairedDifference all = dense_minus_passt(data, results, "");
  checks.push_back({"over all data passt has the lower MAE", all.mean > 0,
                    "dense - passt: " + interval(all), bounds.order});
  const PairedDifference planted = dense_minus_passt(data, results, kPlantedGenre);
  checks.push_back(
      {std::string("in ") + kPlantedGenre + ", built that way, dense has the lower MAE",
       planted.mean < 0, "dense - passt: " + interval(planted), bounds.planted_order});
  return checks;
}

}  // namespace onpa::apps
