// Training the dense regressor on features that are all in memory.
#include <algorithm>
#include <optional>

#include "apps/training/rare.h"
#include "apps/training/train_rows.h"
#include "apps/training/train_task.h"
#include "kernels/error.h"
#include "kernels/shuffle.h"
#include "tensor/ops/loss.h"

namespace onpa::apps {
namespace {

class DenseTask : public TrainTask {
 public:
  DenseTask(const Config& config, const data::DataSet& data, const data::Shard& shard)
      : config_(config),
        data_(data),
        shard_(shard),
        split_(apps::train_rows(data, config)),
        model_(config.dense(static_cast<std::int64_t>(data.feature_names.size()))) {
    const std::vector<std::int64_t>& rows = split_.train;
    card_.kind = "dense";
    card_.dense = model_.config();
    card_.feature_names = data.feature_names;
    card_.features = data::Scaler::fit(data, rows);
    fit_target_scale(config, data, rows, card_);
    DenseTable table = {scaled_features(card_, data, rows), {}};
    const std::optional<data::DataSet> permuted = with_permuted_targets(data, rows, config);
    const std::vector<data::Track>& tracks = permuted ? permuted->tracks : data.tracks;
    for (const std::int64_t row : rows) {
      table.y.push_back(tracks[static_cast<std::size_t>(row)].target);
    }
    if (config.data.rare == "smogn") table = with_smogn(table, rows, config);
    rows_ = {model_.config(), table.x, Tensor::empty({std::ssize(table.y), 1})};
    for (std::size_t i = 0; i < table.y.size(); ++i) {
      rows_.y.data<float>()[i] =
          static_cast<float>((table.y[i] - card_.target_mean) / card_.target_std);
    }
  }

  nn::Module& module() override { return model_; }
  void initialize(std::uint64_t seed) override { model_.initialize(seed); }
  const ModelCard& card() const override { return card_; }

  void start_epoch(std::uint64_t epoch, std::int64_t cursor, std::uint64_t) override {
    order_.emplace(static_cast<std::uint64_t>(config_.train.seed), epoch,
                   static_cast<std::uint32_t>(count()));
    cursor_ = cursor;
  }

  bool next_batch(std::uint64_t, HostBatch& batch) override {
    const std::int64_t total = std::min(config_.train.batch_size, count() - cursor_);
    if (total <= 0) return false;
    const data::Range own = shard_.part(total);
    batch = {.samples = own.size(), .total = total, .first = own.begin, .cursor = cursor_ + total};
    if (own.size() > 0) batch.inputs = rows_at(cursor_ + own.begin, own.size());
    cursor_ += total;
    return true;
  }

  Tensor loss(const std::vector<Tensor>& inputs, std::uint64_t draw,
              std::int64_t first_row) override {
    const Tensor& x = inputs[0];
    const DType dtype = model_.parameters().front().tensor.dtype();
    const Tensor logits =
        model_.forward(dtype == x.dtype() ? x : x.to(dtype),
                       static_cast<std::uint64_t>(config_.train.seed), draw, first_row);
    return ops::loss(logits, inputs[1], config_.loss(),
                     static_cast<float>(config_.train.huber_delta));
  }

  std::int64_t batches_per_epoch() const override {
    return (count() + config_.train.batch_size - 1) / config_.train.batch_size;
  }
  std::int64_t samples_per_epoch() const override { return count(); }
  const DenseRows* dense_rows() const override { return &rows_; }
  const std::string& evaluated() const override { return split_.evaluated; }

  std::vector<TrackPrediction> predict_held_out(const StopCheck& stop) override {
    return predict_rows(model_, card_, data_, split_.evaluation, config_.train.eval_batch_size,
                        stop, shard_);
  }

 private:
  std::int64_t count() const { return rows_.x.size(0); }

  // Features and targets of `size` rows of the epoch, from place `begin` on.
  std::vector<Tensor> rows_at(std::int64_t begin, std::int64_t size) const {
    const std::int64_t width = rows_.x.size(1);
    const Tensor x = Tensor::empty({size, width}), y = Tensor::empty({size, 1});
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t row = (*order_)(static_cast<std::uint32_t>(begin + i));
      std::copy_n(rows_.x.data<float>() + row * width, width, x.data<float>() + i * width);
      y.data<float>()[i] = rows_.y.data<float>()[row];
    }
    return {x, y};
  }

  Config config_;
  const data::DataSet& data_;
  data::Shard shard_;
  TrainRows split_;
  nn::Dense model_;
  ModelCard card_;
  DenseRows rows_;
  std::optional<ShuffledOrder> order_;
  std::int64_t cursor_ = 0;
};

}  // namespace

std::unique_ptr<TrainTask> make_dense_task(const Config& config, const data::DataSet& data,
                                           const data::Shard& shard) {
  return std::make_unique<DenseTask>(config, data, shard);
}

}  // namespace onpa::apps
