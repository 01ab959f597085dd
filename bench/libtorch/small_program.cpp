// A whole program that uses LibTorch, for the row that times compiling and linking one:
// bench/vs_torch/small_program.cpp is the same with onpa.
#include <torch/torch.h>

#include <cstdio>

int main() {
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(10, 64), torch::nn::ReLU(),
                              torch::nn::Linear(64, 64), torch::nn::ReLU(),
                              torch::nn::Linear(64, 1));
  model->train();
  torch::optim::AdamW optimizer(model->parameters(),
                                torch::optim::AdamWOptions(1e-3).weight_decay(0));

  const torch::Tensor x = torch::empty({512, 10}), y = torch::empty({512, 1});
  for (int i = 0; i < 5120; ++i) x.data_ptr<float>()[i] = static_cast<float>(i % 17 - 8) / 8;
  for (int i = 0; i < 512; ++i) y.data_ptr<float>()[i] = x.data_ptr<float>()[i * 10];

  for (int step = 0; step < 10; ++step) {
    optimizer.zero_grad();
    const torch::Tensor loss = torch::mse_loss(model->forward(x), y);
    loss.backward();
    optimizer.step();
    std::printf("step %d loss %.4f\n", step, loss.item<float>());
  }
}
