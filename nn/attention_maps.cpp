#include "nn/attention_maps.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tensor/autograd.h"
#include "tensor/ops/linear.h"

namespace onpa::nn {
namespace {

constexpr std::int64_t kPrefix = 2;        // class and distillation token
constexpr std::int64_t kBlockRows = 256;   // of attention that are held at once
constexpr std::int64_t kSoftmaxRows = 16;  // the least that a thread is worth

Tensor on_host(const Tensor& x) {
  const Tensor wide = x.dtype() == DType::kF32 ? x : x.to(DType::kF32);
  return wide.to(DeviceKind::kCpu);
}

// The queries, keys and values of a sample, one head at a time.
class Heads {
 public:
  Heads(const Tensor& qkv, std::int64_t heads) : qkv_(on_host(qkv)), heads_(heads) {
    ONPA_CHECK(qkv_.shape().rank() == 3 && qkv_.size(0) == 1 && heads >= 1 &&
                   qkv_.size(2) % (3 * heads) == 0,
               "attention map: qkv ", qkv_.shape(), " of ", heads, " heads, want (1, N, 3 C)");
  }
  std::int64_t tokens() const { return qkv_.size(1); }
  std::int64_t count() const { return heads_; }

  // Queries [first, first + count) of a head, divided by the root of its width.
  Tensor queries(std::int64_t head, std::int64_t first, std::int64_t count) const {
    return part(head, first, count, 1 / std::sqrt(static_cast<float>(width())));
  }
  Tensor keys(std::int64_t head) const { return part(heads_ + head, 0, tokens(), 1); }

 private:
  std::int64_t width() const { return qkv_.size(2) / (3 * heads_); }
  Tensor part(std::int64_t column, std::int64_t first, std::int64_t count, float scale) const {
    const Tensor out = Tensor::empty({count, width()});
    for (std::int64_t i = 0; i < count; ++i) {
      const float* from = qkv_.data<float>() + (first + i) * qkv_.size(2) + column * width();
      std::transform(from, from + width(), out.data<float>() + i * width(),
                     [scale](float x) { return x * scale; });
    }
    return out;
  }

  Tensor qkv_;
  std::int64_t heads_;
};

void softmax_rows(const Tensor& scores) {
  const std::int64_t width = scores.size(1);
  kernels::parallel_for(scores.size(0), kSoftmaxRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* row = scores.data<float>() + i * width;
      const float largest = *std::max_element(row, row + width);
      double sum = 0;
      for (std::int64_t j = 0; j < width; ++j) {
        row[j] = std::exp(row[j] - largest);
        sum += static_cast<double>(row[j]);
      }
      const auto scale = static_cast<float>(1 / sum);
      for (std::int64_t j = 0; j < width; ++j) row[j] *= scale;
    }
  });
}

Tensor rows_of(const Heads& heads, std::int64_t head, const Tensor& keys, std::int64_t first,
               std::int64_t count) {
  const Tensor scores = ops::linear(heads.queries(head, first, count), keys);
  softmax_rows(scores);
  return scores;
}

// Columns [first, first + count) of x (R, N).
Tensor columns_of(const Tensor& x, std::int64_t first, std::int64_t count) {
  const Tensor out = Tensor::empty({x.size(0), count});
  for (std::int64_t r = 0; r < x.size(0); ++r) {
    std::copy_n(x.data<float>() + r * x.size(1) + first, count, out.data<float>() + r * count);
  }
  return out;
}

void add(const Tensor& to, const Tensor& x, float scale) {
  const auto from = x.span<float>();
  const auto into = to.span<float>();
  for (std::size_t i = 0; i < into.size(); ++i) into[i] += scale * from[i];
}

// The two leading rows of one layer's attention, of `head` or of the mean.
Tensor prefix_rows(const Heads& heads, std::int64_t head) {
  const Tensor out = Tensor::zeros({kPrefix, heads.tokens()});
  const std::int64_t from = head < 0 ? 0 : head, to = head < 0 ? heads.count() : head + 1;
  for (std::int64_t h = from; h < to; ++h) {
    add(out, rows_of(heads, h, heads.keys(h), 0, kPrefix), 1.0f / static_cast<float>(to - from));
  }
  return out;
}

std::vector<Tensor> block_inputs_of(const Passt& model, const Tensor& tokens) {
  ONPA_CHECK(tokens.defined() && tokens.shape().rank() == 3 && tokens.size(0) == 1 &&
                 tokens.size(1) > kPrefix,
             "attention map: tokens ", tokens.shape(), ", want (1, N, C) of one clip");
  std::vector<Tensor> out;
  model.forward_tokens(tokens, &out);
  return out;
}

}  // namespace

Tensor attention_rows(const Tensor& qkv, std::int64_t heads, std::int64_t head, std::int64_t first,
                      std::int64_t count) {
  const NoGrad no_grad;
  const Heads parts(qkv, heads);
  ONPA_CHECK(
      head >= 0 && head < heads && first >= 0 && count >= 1 && first + count <= parts.tokens(),
      "attention map: rows ", first, " to ", first + count - 1, " of head ", head, ", have ",
      parts.tokens(), " tokens and ", heads, " heads");
  return rows_of(parts, head, parts.keys(head), first, count);
}

Tensor times_mean_attention(const Tensor& rows, const Tensor& qkv, std::int64_t heads) {
  const NoGrad no_grad;
  const Heads parts(qkv, heads);
  const std::int64_t n = parts.tokens();
  ONPA_CHECK(rows.shape().rank() == 2 && rows.size(1) == n, "attention map: rows ", rows.shape(),
             ", want (R, ", n, ")");
  const Tensor out = Tensor::zeros(rows.shape());
  for (std::int64_t h = 0; h < heads; ++h) {
    const Tensor keys = parts.keys(h);
    for (std::int64_t first = 0; first < n; first += kBlockRows) {
      const std::int64_t count = std::min(kBlockRows, n - first);
      add(out, ops::matmul(columns_of(rows, first, count), rows_of(parts, h, keys, first, count)),
          1.0f / static_cast<float>(heads));
    }
  }
  return out;
}

Tensor attention_rollout(const Passt& model, const Tensor& tokens) {
  const NoGrad no_grad;
  std::vector<Tensor> inputs = block_inputs_of(model, tokens);
  const std::int64_t heads = model.config().heads, n = tokens.size(1);
  // Two rows from the last layer down: a product of matrices would be N times as much work.
  Tensor rows = Tensor::zeros({kPrefix, n});
  for (std::int64_t r = 0; r < kPrefix; ++r) rows.data<float>()[r * n + r] = 1;
  for (std::int64_t layer = model.config().depth - 1; layer >= 0; --layer) {
    const Tensor qkv = model.block(layer).project(inputs.back());
    inputs.pop_back();
    const bool last = layer + 1 == model.config().depth;  // where only those two rows are not 0
    const Tensor attended =
        last ? prefix_rows(Heads(qkv, heads), -1) : times_mean_attention(rows, qkv, heads);
    for (float& x : rows.span<float>()) x *= 0.5f;
    add(rows, attended, 0.5f);
  }
  return rows;
}

Tensor prefix_attention(const Passt& model, const Tensor& tokens, std::int64_t layer,
                        std::int64_t head) {
  const NoGrad no_grad;
  const std::int64_t heads = model.config().heads;
  ONPA_CHECK(head >= -1 && head < heads, "attention map: head ", head, ", want 0 to ", heads - 1,
             ", or -1 for the mean");
  const Block& block = model.block(layer);
  const std::vector<Tensor> inputs = block_inputs_of(model, tokens);
  return prefix_rows(Heads(block.project(inputs[static_cast<std::size_t>(layer)]), heads), head);
}

}  // namespace onpa::nn
