// Rows of single ops.
#include <cmath>
#include <memory>
#include <vector>

#include "bench/vs_torch/onpa_rows.h"
#include "kernels/optim.h"
#include "tensor/ops/activation.h"
#include "tensor/ops/attention.h"
#include "tensor/ops/linear.h"
#include "tensor/ops/norm.h"
#include "tests/support/hash_fill.h"

namespace onpa::vs {
namespace {

using testing::hash_tensor;

constexpr float kNormEps = 1e-6f;
constexpr int kCheckedUpdates = 3;

std::int64_t integer(const Job& job, const char* name) {
  return job.args.at(name).get<std::int64_t>();
}

bool with_backward(const Job& job) {
  return job.args.at("backward").get<bool>();
}

// `forward` alone without a graph, or with the gradients of `leaves` for the gradient `dy` of its
// result. Outputs are y and d<name> of each leaf.
using Forward = std::function<Tensor()>;
struct Leaf {
  std::string name;
  Tensor tensor;
};

Work op_work(const Job& job, const Forward& forward, const std::vector<Leaf>& leaves,
             const Tensor& dy) {
  if (!with_backward(job)) {
    const auto run = [forward] {
      const NoGrad no_grad;
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
  const auto both = [forward, dy] {
    const Tensor y = forward();
    y.node()->backward(dy);
    return y;
  };
  return {.check =
              [both, leaves] {
                Outputs out;
                add(out, "y", both());
                for (const Leaf& leaf : leaves) {
                  add(out, "d" + leaf.name, leaf.tensor.grad());
                  leaf.tensor.clear_grad();
                }
                return out;
              },
          .run =
              [both, leaves] {
                both();
                for (const Leaf& leaf : leaves) leaf.tensor.clear_grad();
              }};
}

Kind linear_kind() {
  return {
      .inputs =
          [](const Job& job) {
            const std::int64_t m = integer(job, "m"), n = integer(job, "n"), k = integer(job, "k");
            const float scale = 1 / std::sqrt(static_cast<float>(k));
            return io::NamedTensors{{"x", hash_tensor({m, k}, "x", 1.5f)},
                                    {"weight", hash_tensor({n, k}, "weight", scale)},
                                    {"bias", hash_tensor({n}, "bias", 0.1f)}};
          },
      .work =
          [](const Job& job, const io::SafetensorsFile& in) {
            const auto activation = job.args.at("gelu").get<bool>() ? kernels::Activation::kGelu
                                                                    : kernels::Activation::kNone;
            const Tensor x = in.find("x"), weight = in.find("weight"), bias = in.find("bias");
            return op_work(job, [=] { return ops::linear(x, weight, bias, activation); }, {}, {});
          }};
}

Kind attention_kind() {
  return {.inputs =
              [](const Job& job) {
                const std::int64_t tokens = integer(job, "tokens");
                const std::int64_t width = 64 * integer(job, "heads");
                return io::NamedTensors{{"qkv", hash_tensor({1, tokens, 3 * width}, "qkv", 2)},
                                        {"dy", hash_tensor({1, tokens, width}, "dy", 1)}};
              },
          .work =
              [](const Job& job, const io::SafetensorsFile& in) {
                Tensor qkv = in.find("qkv");
                const std::int64_t heads = integer(job, "heads");
                if (with_backward(job)) qkv.set_requires_grad();
                return op_work(
                    job, [qkv, heads] { return ops::attention(qkv, heads); }, {{"qkv", qkv}},
                    in.find("dy"));
              }};
}

Kind norm_kind() {
  return {.inputs =
              [](const Job& job) {
                const std::int64_t rows = integer(job, "rows"), cols = integer(job, "cols");
                return io::NamedTensors{{"x", hash_tensor({rows, cols}, "x", 2)},
                                        {"weight", hash_tensor({cols}, "weight", 1)},
                                        {"bias", hash_tensor({cols}, "bias", 1)},
                                        {"dy", hash_tensor({rows, cols}, "dy", 1)}};
              },
          .work =
              [](const Job& job, const io::SafetensorsFile& in) {
                Tensor x = in.find("x"), weight = in.find("weight"), bias = in.find("bias");
                if (with_backward(job)) {
                  for (Tensor* leaf : {&x, &weight, &bias}) leaf->set_requires_grad();
                }
                return op_work(
                    job, [=] { return ops::layer_norm(x, weight, bias, kNormEps); },
                    {{"x", x}, {"weight", weight}, {"bias", bias}}, in.find("dy"));
              }};
}

Kind gelu_kind() {
  return {.inputs =
              [](const Job& job) {
                const Shape shape = {integer(job, "rows"), integer(job, "cols")};
                return io::NamedTensors{{"x", hash_tensor(shape, "x", 4)},
                                        {"dy", hash_tensor(shape, "dy", 1)}};
              },
          .work =
              [](const Job& job, const io::SafetensorsFile& in) {
                Tensor x = in.find("x");
                if (with_backward(job)) x.set_requires_grad();
                return op_work(
                    job, [x] { return ops::gelu(x); }, {{"x", x}}, in.find("dy"));
              }};
}

// Every peer fills 86 M values for itself: value * (1 + i % 7).
Tensor filled(std::int64_t n, float value) {
  const Tensor out = Tensor::empty({n});
  std::int64_t i = 0;
  for (float& v : out.span<float>()) v = value * static_cast<float>(1 + i++ % 7);
  return out;
}

Kind adamw_kind() {
  return {.inputs = [](const Job&) { return io::NamedTensors{}; },
          .work =
              [](const Job& job, const io::SafetensorsFile&) {
                const std::int64_t n = integer(job, "count");
                const Tensor param = filled(n, 0.01f), grad = filled(n, 1e-3f),
                             m = filled(n, 1e-3f), v = filled(n, 1e-6f);
                const auto step = [=, count = std::int64_t{0}]() mutable {
                  kernels::adamw(kernels::Cpu{}, {.param = param.data<float>(),
                                                  .grad = grad.data<float>(),
                                                  .m = m.data<float>(),
                                                  .v = v.data<float>(),
                                                  .n = n,
                                                  .beta1 = 0.9,
                                                  .beta2 = 0.999,
                                                  .lr = 1e-5f,
                                                  .eps = 1e-8f,
                                                  .weight_decay = 1e-4f,
                                                  .grad_scale = 1,
                                                  .step = ++count});
                };
                const auto shared = std::make_shared<std::function<void()>>(step);
                return Work{.check =
                                [shared, param, m, v] {
                                  for (int i = 0; i < kCheckedUpdates; ++i) (*shared)();
                                  Outputs out;
                                  add(out, "param", param);
                                  add(out, "m", m);
                                  add(out, "v", v);
                                  return out;
                                },
                            .run = [shared] { (*shared)(); }};
              }};
}

}  // namespace

std::map<std::string, Kind> kernel_kinds() {
  return {{"linear", linear_kind()},
          {"attention", attention_kind()},
          {"layer_norm", norm_kind()},
          {"gelu", gelu_kind()},
          {"adamw", adamw_kind()}};
}

}  // namespace onpa::vs
