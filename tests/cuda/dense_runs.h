// Runs of dense training steps' Cuda overload on guarded memory.
#pragma once

#include "tests/cuda/device_memory.h"
#include "tests/kernels/dense_checks.h"

namespace onpa::testing {

/// Steps of `model` from `start`, which advance by themselves on the device.
inline kernels::DenseRun run_dense(const kernels::DenseCase& c,
                                   const kernels::DenseModel<float>& model,
                                   const kernels::DenseState& start, int steps) {
  using kernels::Cuda;
  const DeviceArray<float> x(model.x), y(model.y), param(model.param), m(model.m), v(model.v);
  std::vector<kernels::DenseState> states(static_cast<std::size_t>(steps) + 1);
  states[0] = start;
  std::vector<float> rates;
  for (int i = 0; i < steps; ++i) rates.push_back(kernels::dense_rate(i));
  const DeviceArray<kernels::DenseState> state(states);
  const DeviceArray<float> lr(rates), loss(steps);
  kernels::DenseStep a = kernels::dense_arguments(c, model.layers);
  a.x = x.data(), a.y = y.data();
  a.param = param.data(), a.m = m.data(), a.v = v.data();
  const DeviceArray<unsigned char> workspace(
      static_cast<std::int64_t>(kernels::dense_step_workspace_bytes(Cuda{}, a)));
  a.workspace = workspace.data();
  kernels::dense_pack(Cuda{}, a);
  for (int i = 0; i < steps; ++i) {
    a.lr = lr.data() + i;
    a.loss = loss.data() + i;
    a.state = state.data() + i;
    a.next_state = state.data() + i + 1;
    kernels::dense_step(Cuda{}, a);
  }
  return {loss.to_host(), param.to_host(), m.to_host(), v.to_host(), state.to_host().back()};
}

}  // namespace onpa::testing
