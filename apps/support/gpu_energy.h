// The energy that a GPU takes, by its driver's management library (NVML).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace onpa::apps {

class GpuEnergy {
 public:
  /// `bus`: the GPU's PCI address. `library`: NVML, loaded at run time; without it, or where it
  /// does not know the GPU, nothing is told.
  explicit GpuEnergy(const std::string& bus, const char* library = "libnvidia-ml.so.1");
  ~GpuEnergy();
  GpuEnergy(const GpuEnergy&) = delete;
  GpuEnergy& operator=(const GpuEnergy&) = delete;

  /// Joules since the driver was loaded, by all that ran on the GPU; nothing where the driver does
  /// not count (before Volta).
  std::optional<double> joules() const;

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace onpa::apps
