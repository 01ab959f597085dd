// Cases of dense training steps on every device, and the step written out in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <vector>

#include "kernels/dense.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {

struct DenseCase {
  std::int64_t inputs = 10;
  std::vector<std::int64_t> hidden = {33};
  std::int64_t batch = 13, rows = 21;
  Activation activation = Activation::kRelu;
  float dropout = 0;
  LossKind loss = LossKind::kMse;
  float clip_norm = 0;
  bool shuffle = true;

  friend std::ostream& operator<<(std::ostream& out, const DenseCase& c) {
    out << c.inputs;
    for (const std::int64_t width : c.hidden) out << '-' << width;
    return out << "-1, batch " << c.batch << " of " << c.rows << ", activation "
               << int(c.activation) << ", dropout " << c.dropout << ", loss " << int(c.loss)
               << ", clip " << c.clip_norm << ", shuffle " << c.shuffle;
  }
};

// Batches of 13 from 21 rows end epochs with 8; sizes are 1, primes, below, at and over groups of
// 4, blocks of 8 rows and tiles of 32, and chunks of 64 rows.
inline std::vector<DenseCase> dense_cases() {
  using enum Activation;
  using enum LossKind;
  return {
      {},
      {.inputs = 1, .hidden = {1}, .batch = 1, .rows = 1},
      {.inputs = 3, .hidden = {}, .batch = 7, .rows = 7, .loss = kHuber},
      {.hidden = {33, 16}, .activation = kGelu, .dropout = 0.3f, .clip_norm = 0.05f},
      {.inputs = 31, .hidden = {64, 32, 31}, .batch = 8, .rows = 17, .loss = kL1},
      {.hidden = {32, 5}, .dropout = 0.5f, .loss = kHuber, .shuffle = false},
      {.hidden = {17}, .batch = 131, .rows = 140, .activation = kGelu, .loss = kL1},
      {.inputs = 4, .hidden = {8}, .batch = 64, .rows = 129, .activation = kNone},
      {.inputs = 5, .hidden = {1, 2, 3, 1, 5, 4, 33}, .batch = 30, .rows = 30, .activation = kGelu},
      {.inputs = 7, .hidden = {260, 3}, .batch = 9, .rows = 40, .clip_norm = 100},
      {.inputs = 2, .hidden = {3}, .batch = 70, .rows = 70, .activation = kGelu},
  };
}

constexpr float kDenseDelta = 0.75f, kDenseEps = 0.01f, kDenseDecay = 0.1f;
constexpr std::uint64_t kDenseSeed = 77;
constexpr double kDenseBeta1 = 0.9, kDenseBeta2 = 0.99;

/// Data and parameters; all floats.
template <class T>
struct DenseModel {
  std::vector<DenseLayer> layers;
  std::vector<T> x, y, param, m, v;
};

template <class T>
DenseModel<T> dense_model(const DenseCase& c, std::uint64_t seed = 5) {
  DenseModel<T> model;
  std::int64_t inputs = c.inputs, size = 0;
  const auto take = [&](std::int64_t count) {
    const std::int64_t at = size;
    size += (count + 15) / 16 * 16;
    return at;
  };
  for (std::size_t i = 0; i <= c.hidden.size(); ++i) {
    const std::int64_t outputs = i < c.hidden.size() ? c.hidden[i] : 1;
    const std::int64_t bias = take(outputs);
    model.layers.push_back({inputs, outputs, size, bias});
    size += outputs * inputs;  // the next layer, or the end, follows at once
    inputs = outputs;
  }
  model.x = testing::normal_values<T>(c.rows * c.inputs, seed);
  model.y = testing::normal_values<T>(c.rows, seed + 1);
  model.param.resize(static_cast<std::size_t>(size));
  for (const DenseLayer& layer : model.layers) {
    const auto fill = [&](std::int64_t at, std::int64_t count, double deviation) {
      const auto values = testing::normal_values<T>(count, ++seed + 10, deviation);
      std::copy(values.begin(), values.end(), model.param.begin() + at);
    };
    fill(layer.weight, layer.outputs * layer.inputs, std::sqrt(1.5 / double(layer.inputs)));
    fill(layer.bias, layer.outputs, 0.5);
  }
  model.m.resize(model.param.size());
  model.v.resize(model.param.size());
  return model;
}

/// Arguments of a step on host memory of the model; the rest is the caller's.
inline DenseStep dense_arguments(const DenseCase& c, const std::vector<DenseLayer>& layers) {
  DenseStep a = {};
  a.rows = c.rows;
  a.batch = c.batch;
  a.layers = static_cast<int>(layers.size());
  std::copy(layers.begin(), layers.end(), a.layer);
  a.activation = c.activation;
  a.dropout = c.dropout;
  a.loss_kind = c.loss;
  a.delta = kDenseDelta;
  a.seed = kDenseSeed;
  a.shuffle = c.shuffle;
  a.beta1 = kDenseBeta1;
  a.beta2 = kDenseBeta2;
  a.eps = kDenseEps;
  a.weight_decay = kDenseDecay;
  a.clip_norm = c.clip_norm;
  return a;
}

/// One row through the network and back, written out; adds to `gradient`, returns the loss.
class DenseRow {
 public:
  DenseRow(const DenseCase& c, const DenseModel<double>& model, const DenseState& state)
      : c_(c), model_(model), state_(state) {}

  double run(std::int64_t row, std::int64_t place, double weight, std::vector<double>& gradient) {
    inputs_.assign(1,
                   {model_.x.begin() + row * c_.inputs, model_.x.begin() + (row + 1) * c_.inputs});
    slopes_.clear();
    const int last = static_cast<int>(model_.layers.size()) - 1;
    for (int i = 0; i < last; ++i) hidden(i, place);
    const double d = sum(last, 0) - model_.y[static_cast<std::size_t>(row)], size = std::abs(d);
    const double sign = d > 0 ? 1 : d < 0 ? -1 : 0;
    double loss = d * d, slope = 2 * d;
    if (c_.loss == LossKind::kL1) loss = size, slope = sign;
    if (c_.loss == LossKind::kHuber) {
      loss = size > kDenseDelta ? kDenseDelta * (size - kDenseDelta / 2) : d * d / 2;
      slope = size > kDenseDelta ? kDenseDelta * sign : d;
    }
    std::vector<double> dz = {slope * weight};
    for (int i = last; i >= 0; --i) dz = back(i, dz, gradient);
    return loss;
  }

 private:
  double sum(int i, std::int64_t output) const {
    const DenseLayer& layer = model_.layers[static_cast<std::size_t>(i)];
    double z = at(model_.param, layer.bias + output);
    for (std::int64_t k = 0; k < layer.inputs; ++k) {
      z += at(model_.param, layer.weight + output * layer.inputs + k) * at(inputs_.back(), k);
    }
    return z;
  }
  static double at(const std::vector<double>& v, std::int64_t i) {
    return v[static_cast<std::size_t>(i)];
  }
  void hidden(int i, std::int64_t place) {
    std::vector<double> out, slopes;
    for (std::int64_t j = 0; j < model_.layers[static_cast<std::size_t>(i)].outputs; ++j) {
      const double z = sum(i, j), cdf = 0.5 * std::erfc(-z / std::sqrt(2.0));
      double h = z, slope = 1;
      if (c_.activation == Activation::kRelu) h = std::max(z, 0.0), slope = z > 0;
      if (c_.activation == Activation::kGelu) {
        h = z * cdf;
        slope = cdf + z * std::exp(-z * z / 2) / std::sqrt(2 * M_PI);
      }
      if (c_.dropout > 0) {
        std::uint32_t words[4];
        philox_block({kDenseSeed, kStreamDropout + (static_cast<std::uint32_t>(i) << 16),
                      state_.step, static_cast<std::uint64_t>(place)},
                     static_cast<std::uint64_t>(j / 4), words);
        const bool kept = uniform_from_bits(words[j % 4]) >= c_.dropout;
        const double scale = kept ? 1 / (1 - static_cast<double>(c_.dropout)) : 0;
        h *= scale;
        slope *= scale;
      }
      out.push_back(h);
      slopes.push_back(slope);
    }
    inputs_.push_back(out);
    slopes_.push_back(slopes);
  }
  std::vector<double> back(int i, const std::vector<double>& dz, std::vector<double>& gradient) {
    const DenseLayer& layer = model_.layers[static_cast<std::size_t>(i)];
    const std::vector<double>& in = inputs_[static_cast<std::size_t>(i)];
    std::vector<double> below(in.size());
    for (std::int64_t j = 0; j < layer.outputs; ++j) {
      gradient[static_cast<std::size_t>(layer.bias + j)] += at(dz, j);
      for (std::int64_t k = 0; k < layer.inputs; ++k) {
        const auto w = static_cast<std::size_t>(layer.weight + j * layer.inputs + k);
        gradient[w] += at(dz, j) * at(in, k);
        below[static_cast<std::size_t>(k)] += at(dz, j) * model_.param[w];
      }
    }
    if (i == 0) return {};
    const std::vector<double>& slopes = slopes_[static_cast<std::size_t>(i) - 1];
    for (std::size_t k = 0; k < below.size(); ++k) below[k] *= slopes[k];
    return below;
  }

  const DenseCase& c_;
  const DenseModel<double>& model_;
  const DenseState& state_;
  std::vector<std::vector<double>> inputs_, slopes_;  // of each layer; of each hidden one
};

/// A step in double. Returns the mean loss.
inline double dense_reference(const DenseCase& c, DenseModel<double>& model, DenseState& state,
                              double lr) {
  const std::int64_t position = static_cast<std::int64_t>(state.position);
  const std::int64_t count = std::min(c.batch, c.rows - position);
  const ShuffledOrder order(kDenseSeed, state.epoch, static_cast<std::uint32_t>(c.rows));
  std::vector<double> gradient(model.param.size());
  DenseRow one(c, model, state);
  double loss = 0, squares = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row =
        c.shuffle ? order(static_cast<std::uint32_t>(position + i)) : position + i;
    loss += one.run(row, i, 1 / static_cast<double>(count), gradient);
  }
  for (const double g : gradient) squares += g * g;
  const double scale =
      c.clip_norm > 0 ? std::min(1.0, c.clip_norm / (std::sqrt(squares) + 1e-6)) : 1.0;
  const auto step = static_cast<double>(state.optimizer_step);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double g = gradient[i] * scale;
    double &p = model.param[i], &m = model.m[i], &v = model.v[i];
    p -= lr * kDenseDecay * p;
    m = kDenseBeta1 * m + (1 - kDenseBeta1) * g;
    v = kDenseBeta2 * v + (1 - kDenseBeta2) * g * g;
    p -= lr * (m / (1 - std::pow(kDenseBeta1, step))) /
         (std::sqrt(v / (1 - std::pow(kDenseBeta2, step))) + kDenseEps);
  }
  ++state.step;
  ++state.optimizer_step;
  state.position += static_cast<std::uint64_t>(count);
  state.loss_sum += loss;
  state.samples += static_cast<std::uint64_t>(count);
  if (position + count == c.rows) state.position = 0, ++state.epoch;
  return loss / static_cast<double>(count);
}

}  // namespace onpa::kernels
