// Where a model computes, and in what.
#pragma once

#include <string>

#include "kernels/dtype.h"
#include "nn/module.h"
#include "tensor/storage.h"

namespace onpa::apps {

/// What a person chose on the command line.
struct ComputeChoice {
  std::string device = "cpu";      // auto | cpu | cuda
  std::string precision = "auto";  // auto | f32 | bf16: of a GPU; the CPU computes in f32
};

struct Compute {
  DeviceKind device = DeviceKind::kCpu;
  DType dtype = DType::kF32;
};

/// Whether `device` means the GPU: `auto` takes one that can be used. Throws Error (kDevice) with
/// the remedy if `device` is cuda and none can.
bool use_gpu(const std::string& device);
/// `auto` precision on a GPU is bf16 for audio models ("passt"), f32 for those of features
/// ("dense"), which are too small to gain. Throws as use_gpu().
Compute choose_compute(const ComputeChoice& choice, const std::string& model_kind);
/// Moves a model that is on the CPU, in f32, to where it is to be used, not trained. Throws Error:
/// kDevice, kOutOfMemory.
void move_model(nn::Module& model, const Compute& compute);

}  // namespace onpa::apps
