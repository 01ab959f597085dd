// Rows of the dense regressor: training steps and epochs, through autograd or in fused steps.
#include <algorithm>
#include <memory>
#include <vector>

#include "bench/vs_torch/onpa_training.h"
#include "data/loader.h"
#include "kernels/dense.h"
#include "nn/dense.h"
#include "tests/support/hash_fill.h"

namespace onpa::vs {
namespace {

using testing::hash_tensor;

constexpr float kDenseRate = 1e-3f;
constexpr std::int64_t kDenseInputs = 10, kDenseBatch = 512;
constexpr int kCheckedDenseSteps = 20;

nn::DenseConfig dense_config(const Job& job) {
  const std::int64_t width = job.args.at("width");
  return {.inputs = kDenseInputs, .hidden = {width, width}, .outputs = 1};
}

// Enough rows for the epoch, or one batch; the target depends on the inputs.
io::NamedTensors dense_inputs(const Job& job) {
  nn::Dense model(dense_config(job));
  testing::hash_fill_parameters(model);
  io::NamedTensors out = named_parameters(model);
  const std::int64_t rows = job.args.at("rows");
  const Tensor x = hash_tensor({rows, kDenseInputs}, "x", 1.5f), y = Tensor::empty({rows, 1});
  for (std::int64_t i = 0; i < rows; ++i) {
    const float* row = x.data<float>() + i * kDenseInputs;
    y.data<float>()[i] = 0.5f * row[0] - 0.25f * row[1] * row[2] + 0.1f * row[9];
  }
  out.emplace_back("x", x);
  out.emplace_back("y", y);
  return out;
}

// Through autograd, as any model trains.
struct DenseRow {
  DenseRow(const Job& job, const io::SafetensorsFile& in)
      : model(dense_config(job)), x(in.find("x")), y(in.find("y")) {
    load_model(model, in);
    model.train();
    training = std::make_unique<Training>(model);
  }

  double step(const Tensor& batch, const Tensor& target) {
    return training->step(model.forward(batch), target, kDenseRate);
  }
  // Batch `index` in the order of the file.
  double ordered_step(std::int64_t index) {
    const std::int64_t begin = index * kDenseBatch % (x.size(0) - kDenseBatch + 1);
    return step(x.slice(begin, begin + kDenseBatch), y.slice(begin, begin + kDenseBatch));
  }
  // All whole batches, in a new random order, as a training run makes them.
  void epoch() {
    const std::int64_t rows = x.size(0);
    const std::vector<std::int64_t> order = data::epoch_order(rows, 1, ++epochs, true);
    for (std::int64_t begin = 0; begin + kDenseBatch <= rows; begin += kDenseBatch) {
      const Tensor batch = Tensor::empty({kDenseBatch, kDenseInputs});
      const Tensor target = Tensor::empty({kDenseBatch, 1});
      for (std::int64_t i = 0; i < kDenseBatch; ++i) {
        const std::int64_t from = order[static_cast<std::size_t>(begin + i)];
        std::copy_n(x.data<float>() + from * kDenseInputs, kDenseInputs,
                    batch.data<float>() + i * kDenseInputs);
        target.data<float>()[i] = y.data<float>()[from];
      }
      step(batch, target);
    }
  }

  nn::Dense model;
  Tensor x, y;
  std::unique_ptr<Training> training;
  std::uint64_t epochs = 0;
};

// In fused steps over rows that stay in memory, shuffled as they are read.
class FusedDense {
 public:
  FusedDense(const Job& job, const io::SafetensorsFile& in)
      : model_(dense_config(job)), x_(in.find("x")), y_(in.find("y")) {
    load_model(model_, in);
    params_ = std::make_unique<FlatParams>(model_.parameter_slots());
    m_ = Tensor::zeros({params_->numel()});
    v_ = Tensor::zeros({params_->numel()});
    step_.x = x_.data<float>();
    step_.y = y_.data<float>();
    step_.rows = x_.size(0);
    step_.batch = kDenseBatch;
    set_layers();
    step_.activation = model_.config().activation;
    step_.loss_kind = kernels::LossKind::kMse;
    step_.seed = 1;
    step_.param = params_->data().data<float>();
    step_.m = m_.data<float>();
    step_.v = v_.data<float>();
    const nn::OptimizerConfig optimizer;
    step_.beta1 = optimizer.beta1;
    step_.beta2 = optimizer.beta2;
    step_.eps = optimizer.eps;
    step_.weight_decay = optimizer.weight_decay;
    step_.lr = &rate_;
    step_.loss = &loss_;
    const auto bytes =
        static_cast<std::int64_t>(kernels::dense_step_workspace_bytes(kernels::Cpu{}, step_));
    workspace_ = Tensor::empty({bytes / 4 + 1});
    step_.workspace = workspace_.bytes();
    kernels::dense_pack(kernels::Cpu{}, step_);
  }

  double step(bool shuffle) {
    kernels::DenseState next;
    step_.shuffle = shuffle;
    step_.state = &state_;
    step_.next_state = &next;
    kernels::dense_step(kernels::Cpu{}, step_);
    state_ = next;
    return loss_;
  }
  void epoch() {
    const std::int64_t rest = step_.rows - static_cast<std::int64_t>(state_.position);
    for (std::int64_t done = 0; done < rest; done += kDenseBatch) step(true);
  }

 private:
  void set_layers() {
    std::int64_t inputs = kDenseInputs;
    const std::vector<FlatSlot>& slots = params_->slots();
    step_.layers = static_cast<int>(slots.size() / 2);
    for (int i = 0; i < step_.layers; ++i) {
      const FlatSlot &weight = slots[static_cast<std::size_t>(2 * i)],
                     &bias = slots[static_cast<std::size_t>(2 * i + 1)];
      step_.layer[i] = {inputs, bias.numel, weight.offset, bias.offset};
      inputs = bias.numel;
    }
  }

  nn::Dense model_;
  Tensor x_, y_, m_, v_, workspace_;
  std::unique_ptr<FlatParams> params_;
  kernels::DenseStep step_ = {};
  kernels::DenseState state_;
  float rate_ = kDenseRate, loss_ = 0;
};

Work work_of(const std::function<double(int index)>& ordered_step,
             const std::function<void()>& run) {
  return {.check =
              [ordered_step] {
                std::vector<float> losses;
                for (int i = 0; i < kCheckedDenseSteps; ++i) {
                  losses.push_back(static_cast<float>(ordered_step(i)));
                }
                Outputs out;
                out.add("losses", losses.data(), losses.size());
                return out;
              },
          .run = run};
}

Work dense_work(const Job& job, const io::SafetensorsFile& in) {
  const bool epoch = job.args.at("epoch");
  if (job.variant == "fused") {
    const auto row = std::make_shared<FusedDense>(job, in);
    return work_of([row](int) { return row->step(false); },
                   [row, epoch] { epoch ? row->epoch() : static_cast<void>(row->step(false)); });
  }
  const auto row = std::make_shared<DenseRow>(job, in);
  return work_of([row](int index) { return row->ordered_step(index); },
                 [row, epoch] { epoch ? row->epoch() : static_cast<void>(row->ordered_step(0)); });
}

}  // namespace

std::map<std::string, Kind> dense_kinds() {
  return {{"dense", {.inputs = dense_inputs, .work = dense_work}}};
}

}  // namespace onpa::vs
