#include "apps/study/evaluate.h"

#include "apps/inference/predictor.h"
#include "apps/support/config.h"
#include "apps/training/train_state.h"
#include "apps/training/train_task.h"
#include "kernels/error.h"

namespace onpa::apps {
namespace {

const std::string& text_of(const nn::FoundCheckpoint& found, const std::string& name) {
  const auto text = found.content.text.find(name);
  if (text == found.content.text.end()) {
    fail(ExitCode::kBadCheckpoint, found.folder.string(), ": no ", name);
  }
  return text->second;
}

}  // namespace

ModelResult evaluate_run(const std::filesystem::path& run, const data::DataSet& data,
                         std::int64_t batch_size, const ComputeChoice& compute) {
  const nn::FoundCheckpoint found = open_checkpoint(run);
  const TrainState state = TrainState::from_json(text_of(found, "state.json"));
  Predictor predictor(found);
  predictor.compute_on(compute);
  ModelResult out;
  out.model = predictor.card().kind;
  out.hours_per_epoch = state.hours_per_epoch;
  const std::vector<std::int64_t> rows = data.indices(data::Split::kTest);
  if (nn::Dense* dense = predictor.dense()) {
    out.predictions = predict_rows(*dense, predictor.card(), data, rows, batch_size);
    return out;
  }
  const Config config =
      parse_toml(out.model, text_of(found, "config.toml"), (found.folder / "config.toml").string());
  data::LoaderOptions options = loader_options(config);
  options.batch_size = batch_size;
  out.predictions = predict_rows(*predictor.passt(), predictor.card(), data,
                                 rows_with_audio(data, rows), options);
  return out;
}

}  // namespace onpa::apps
