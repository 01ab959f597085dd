#include "apps/support/gpu_energy.h"

#include <dlfcn.h>

namespace onpa::apps {

// The few functions of NVML that are needed, whose header comes with the driver's tools only; 0 is
// success. Source: NVML API reference.
struct GpuEnergy::Library {
  using Init = int (*)();
  using HandleByBus = int (*)(const char*, void**);
  using Energy = int (*)(void*, unsigned long long*);

  explicit Library(const char* name) : handle(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
    if (handle == nullptr) return;
    init = reinterpret_cast<Init>(dlsym(handle, "nvmlInit_v2"));
    shutdown = reinterpret_cast<Init>(dlsym(handle, "nvmlShutdown"));
    by_bus = reinterpret_cast<HandleByBus>(dlsym(handle, "nvmlDeviceGetHandleByPciBusId_v2"));
    energy = reinterpret_cast<Energy>(dlsym(handle, "nvmlDeviceGetTotalEnergyConsumption"));
    whole = init != nullptr && shutdown != nullptr && by_bus != nullptr && energy != nullptr &&
            init() == 0;
  }
  ~Library() {
    if (whole) shutdown();
    if (handle != nullptr) dlclose(handle);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  void* handle;
  void* gpu = nullptr;
  bool whole = false;
  Init init = nullptr, shutdown = nullptr;
  HandleByBus by_bus = nullptr;
  Energy energy = nullptr;
};

GpuEnergy::GpuEnergy(const std::string& bus, const char* library)
    : library_(std::make_unique<Library>(library)) {
  if (library_->whole && library_->by_bus(bus.c_str(), &library_->gpu) != 0) {
    library_->gpu = nullptr;
  }
}

GpuEnergy::~GpuEnergy() = default;

std::optional<double> GpuEnergy::joules() const {
  unsigned long long millijoules = 0;
  if (library_->gpu == nullptr || library_->energy(library_->gpu, &millijoules) != 0) return {};
  return static_cast<double>(millijoules) / 1000;
}

}  // namespace onpa::apps
