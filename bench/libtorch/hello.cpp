// The least that loads LibTorch: what a command built on it takes before it does anything.
#include <ATen/ATen.h>

#include <cstdio>

int main() {
  std::printf("%d\n", at::zeros({1}).item<int>());
}
