// A whole program that uses the library, for the row that times compiling and linking one:
// bench/libtorch/small_program.cpp is the same in LibTorch.
#include <cstdio>

#include "nn/dense.h"
#include "nn/optim.h"
#include "tensor/flat_params.h"
#include "tensor/ops/loss.h"

int main() {
  onpa::nn::Dense model({.inputs = 10, .hidden = {64, 64}, .outputs = 1});
  model.initialize(1);
  model.train();
  onpa::FlatParams params(model.parameter_slots());
  onpa::nn::Optimizer optimizer({.weight_decay = 0}, params);

  const onpa::Tensor x = onpa::Tensor::empty({512, 10}), y = onpa::Tensor::empty({512, 1});
  for (int i = 0; i < 5120; ++i) x.data<float>()[i] = static_cast<float>(i % 17 - 8) / 8;
  for (int i = 0; i < 512; ++i) y.data<float>()[i] = x.data<float>()[i * 10];

  for (int step = 0; step < 10; ++step) {
    params.clear_grad();
    const onpa::Tensor loss = onpa::ops::loss(model.forward(x), y, onpa::kernels::LossKind::kMse);
    onpa::backward(loss);
    params.finish_grad();
    optimizer.step(1e-3f);
    std::printf("step %d loss %.4f\n", step, loss.item());
  }
}
