/* Stands in for NVML: one GPU, at 0000:0a:00.0, that takes 1.5 J between two looks. */
#include <string.h>

static int gpu;
static int started;
static unsigned long long taken = 1000;

int nvmlInit_v2(void) {
  started = 1;
  return 0;
}
int nvmlShutdown(void) {
  started = 0;
  return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** handle) {
  if (!started || strcmp(bus, "0000:0a:00.0") != 0) return 6;
  *handle = &gpu;
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* millijoules) {
  if (!started || handle != &gpu) return 2;
  *millijoules = taken += 1500;
  return 0;
}
