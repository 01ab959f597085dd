// Moments in the GPU's work, taken with events on the stream that all work goes to.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace onpa {

class DeviceClock {
 public:
  /// Throws Error (kDevice).
  DeviceClock();
  ~DeviceClock();
  DeviceClock(const DeviceClock&) = delete;
  DeviceClock& operator=(const DeviceClock&) = delete;

  /// Waits until the GPU is idle, forgets all marks and makes this moment 0.
  void start();
  /// Marks the moment at which the work queued so far is done. Returns the mark's index since
  /// start().
  std::size_t mark();
  /// Waits for the marks; their moments in seconds, to half a microsecond.
  std::vector<double> seconds();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace onpa
