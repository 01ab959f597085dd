#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <memory>
#include <vector>

#include "bench/libtorch/rows.h"

namespace onpa::vs {
namespace {

constexpr int kCheckedUpdates = 3;
constexpr double kNormEps = 1e-6;

struct Leaf {
  std::string name;
  at::Tensor tensor;
};

Work op_work(const Job& job, const std::function<at::Tensor()>& forward,
             const std::vector<Leaf>& leaves, const at::Tensor& dy) {
  if (!job.args.at("backward").get<bool>()) {
    const auto run = [forward] {
      const c10::NoGradGuard no_grad;
      return forward();
    };
    return {.check =
                [run] {
                  Outputs out;
                  add(out, "y", run());
                  return out;
                },
            .run = [run] { run(); }};
  }
  std::vector<at::Tensor> inputs;
  for (const Leaf& leaf : leaves) inputs.push_back(leaf.tensor);
  const auto both = [forward, inputs, dy] {
    const at::Tensor y = forward();
    auto gradients = torch::autograd::grad({y}, inputs, {dy});
    return std::pair(y, std::move(gradients));
  };
  return {.check =
              [both, leaves] {
                const auto [y, gradients] = both();
                Outputs out;
                add(out, "y", y);
                for (std::size_t i = 0; i < leaves.size(); ++i) {
                  add(out, "d" + leaves[i].name, gradients[i]);
                }
                return out;
              },
          .run = [both] { both(); }};
}

Work linear(const Job& job, Inputs in) {
  const bool gelu = job.args.at("gelu");
  const at::Tensor x = in["x"], weight = in["weight"], bias = in["bias"];
  const auto forward = [=] {
    at::Tensor y = at::linear(x, weight, bias);
    return gelu ? at::gelu_(y) : y;
  };
  return op_work(job, forward, {}, {});
}

// "packed" does what onpa does, from the packed projection to (B, N, H D); "split" only the product
// in the middle, from three contiguous tensors, with gradients for each.
Work attention(const Job& job, Inputs in) {
  const std::int64_t heads = job.args.at("heads"), tokens = job.args.at("tokens");
  const at::Tensor qkv = in["qkv"], dy = in["dy"];
  const auto split = [=](const at::Tensor& packed) {
    return packed.view({1, tokens, 3, heads, -1}).permute({2, 0, 3, 1, 4});
  };
  const auto merge = [=](const at::Tensor& y) {
    return y.transpose(1, 2).reshape({1, tokens, -1});
  };
  if (job.variant == "packed") {
    const at::Tensor x = leaf(qkv);
    const auto forward = [=] {
      const at::Tensor parts = split(x);
      return merge(at::scaled_dot_product_attention(parts[0], parts[1], parts[2]));
    };
    return op_work(job, forward, {{"qkv", x}}, dy);
  }
  const at::Tensor parts = split(qkv);
  std::vector<at::Tensor> leaves;
  for (int i = 0; i < 3; ++i) leaves.push_back(leaf(parts[i].contiguous()));
  const at::Tensor dy_split = dy.view({1, tokens, heads, -1}).transpose(1, 2).contiguous();
  const auto forward = [=] {
    return at::scaled_dot_product_attention(leaves[0], leaves[1], leaves[2]);
  };
  const bool backward = job.args.at("backward");
  Work work =
      op_work(job, forward, {{"q", leaves[0]}, {"k", leaves[1]}, {"v", leaves[2]}}, dy_split);
  // Results are compared in the packed layout.
  work.check = [=] {
    Outputs out;
    const at::Tensor y = forward();
    add(out, "y", merge(y));
    if (backward) {
      const auto gradients = torch::autograd::grad({y}, leaves, {dy_split});
      add(out, "dqkv", at::stack(gradients).permute({1, 3, 0, 2, 4}).reshape(qkv.sizes()));
    }
    return out;
  };
  return work;
}

Work layer_norm(const Job& job, Inputs in) {
  const at::Tensor x = leaf(in["x"]), weight = leaf(in["weight"]), bias = leaf(in["bias"]);
  const auto forward = [=] { return at::layer_norm(x, {x.size(-1)}, weight, bias, kNormEps); };
  return op_work(job, forward, {{"x", x}, {"weight", weight}, {"bias", bias}}, in["dy"]);
}

Work gelu(const Job& job, Inputs in) {
  const at::Tensor x = leaf(in["x"]);
  return op_work(
      job, [x] { return at::gelu(x); }, {{"x", x}}, in["dy"]);
}

at::Tensor filled(std::int64_t n, double value) {
  return (at::arange(n, at::kInt).remainder_(7).add_(1).to(at::kFloat)).mul_(value);
}

Work adamw(const Job& job, Inputs) {
  const std::int64_t n = job.args.at("count");
  const at::Tensor param = filled(n, 0.01).requires_grad_();
  param.mutable_grad() = filled(n, 1e-3);
  const auto optimizer = std::make_shared<FusedAdamW>(std::vector{param}, 1e-5, 1e-4);
  optimizer->first_moments()[0].copy_(filled(n, 1e-3));
  optimizer->second_moments()[0].copy_(filled(n, 1e-6));
  return {.check =
              [optimizer] {
                for (int i = 0; i < kCheckedUpdates; ++i) optimizer->step();
                Outputs out;
                add(out, "param", optimizer->parameters()[0]);
                add(out, "m", optimizer->first_moments()[0]);
                add(out, "v", optimizer->second_moments()[0]);
                return out;
              },
          .run = [optimizer] { optimizer->step(); }};
}

}  // namespace

FusedAdamW::FusedAdamW(std::vector<at::Tensor> parameters, double rate, double weight_decay)
    : parameters_(std::move(parameters)), rate_(rate), weight_decay_(weight_decay) {
  for (const at::Tensor& parameter : parameters_) {
    first_.push_back(at::zeros_like(parameter));
    second_.push_back(at::zeros_like(parameter));
    steps_.push_back(at::zeros({}, at::kFloat));
  }
}

void FusedAdamW::step() {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> values, gradients, first, second, steps;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].grad().defined()) continue;
    values.push_back(parameters_[i]);
    gradients.push_back(parameters_[i].grad());
    first.push_back(first_[i]);
    second.push_back(second_[i]);
    steps.push_back(steps_[i].add_(1));
  }
  at::_fused_adamw_(values, gradients, first, second, {}, steps, rate_, 0.9, 0.999, weight_decay_,
                    1e-8, false, false);
}

void FusedAdamW::clear_gradients() {
  for (at::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
}

std::map<std::string, MakeWork> kernel_kinds() {
  return {{"linear", linear},
          {"attention", attention},
          {"layer_norm", layer_norm},
          {"gelu", gelu},
          {"adamw", adamw}};
}

}  // namespace onpa::vs
