// NumPy .npy files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>

#include "tensor/io/file.h"
#include "tensor/tensor.h"

namespace onpa::io {

/// Writes an f32, f64, i32 or i64 tensor as .npy version 1.0. Throws Error (kCannotCreate, kIo).
void write_npy(const std::filesystem::path& path, const Tensor& tensor);
/// The same, written and synced, but not yet in its place.
StagedFile stage_npy(const std::filesystem::path& path, const Tensor& tensor);
/// Takes the next row of a file: `width` numbers.
using NpyRowSink = std::function<void(std::span<const float>)>;
/// Writes f32 (rows, width) row by row: what `fill` hands to its sink until it returns. The file
/// takes its place when all is written. Returns the rows. Throws Error as write_npy(), and what
/// `fill` throws.
std::int64_t write_npy_rows(const std::filesystem::path& path, std::int64_t width,
                            const std::function<void(const NpyRowSink&)>& fill);
/// The same, not yet in its place; `rows` is set.
StagedFile stage_npy_rows(const std::filesystem::path& path, std::int64_t width,
                          const std::function<void(const NpyRowSink&)>& fill, std::int64_t& rows);
/// Reads a C-ordered little-endian .npy of those types. Throws Error (kInputMissing, kBadData).
Tensor read_npy(const std::filesystem::path& path);

}  // namespace onpa::io
