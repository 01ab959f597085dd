// A shared library of NVIDIA's that is loaded at the first call instead of at start: they are
// hundreds of MiB, which every start of the command would pay for, and a machine without a GPU need
// not have them.
#pragma once

#include <dlfcn.h>

#include "kernels/error.h"

namespace onpa::gpu {

/// Its handle. Looked for by `soname`, which finds what the system or LD_LIBRARY_PATH offers, then
/// where it was built against. Throws Error (kDevice).
inline void* load_library(const char* name, const char* soname, const char* path) {
  for (const char* file : {soname, path}) {
    if (void* found = dlopen(file, RTLD_NOW | RTLD_LOCAL)) return found;
  }
  fail(ExitCode::kDevice, name, " cannot be loaded: ", dlerror(),
       "; put its folder into LD_LIBRARY_PATH, or use --device cpu");
}

/// Its function `symbol`. Throws Error (kDevice).
template <class Function>
Function* load_function(void* library, const char* name, const char* soname, const char* symbol) {
  void* found = dlsym(library, symbol);
  if (found == nullptr) fail(ExitCode::kDevice, name, " lacks ", symbol, "; want ", soname);
  return reinterpret_cast<Function*>(found);
}

}  // namespace onpa::gpu
