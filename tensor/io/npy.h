// NumPy .npy files.
#pragma once

#include <filesystem>

#include "tensor/tensor.h"

namespace onpa::io {

/// Writes an f32, f64, i32 or i64 tensor as .npy version 1.0. Throws Error (kCannotCreate, kIo).
void write_npy(const std::filesystem::path& path, const Tensor& tensor);
/// Reads a C-ordered little-endian .npy of those types. Throws Error (kInputMissing, kBadData).
Tensor read_npy(const std::filesystem::path& path);

}  // namespace onpa::io
