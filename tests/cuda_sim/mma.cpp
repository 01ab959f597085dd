// ldmatrix and mma.sync of a whole warp. Source: PTX ISA 8.x, "Matrix fragments for mma.m16n8k16"
// and "ldmatrix".
#include <algorithm>
#include <bit>
#include <cstdint>

#include "tests/cuda_sim/engine.h"

namespace sim::detail {

namespace {

float low(std::uint32_t word) {
  return std::bit_cast<float>(word << 16);
}
float high(std::uint32_t word) {
  return std::bit_cast<float>(word & 0xFFFF0000u);
}

std::uint32_t element(const Words& row, int column) {
  return row.w[column / 2] >> (column % 2 * 16) & 0xFFFFu;
}

const LdmatrixOperands& row_of(const Warp& warp, int matrix, int row) {
  return *static_cast<const LdmatrixOperands*>(warp.lanes[matrix * 8 + row]->call.data);
}

// Accesses to shared memory that a matrix costs beyond the first: rows that share 16-byte banks.
int replays(const Warp& warp, int matrix) {
  int most = 1;
  for (int bank = 0; bank < 8; ++bank) {
    int rows = 0;
    for (int i = 0; i < 8; ++i) {
      const std::uintptr_t address = row_of(warp, matrix, i).address;
      if (address / 16 % 8 != static_cast<std::uintptr_t>(bank)) continue;
      bool seen = false;
      for (int k = 0; k < i; ++k) seen |= row_of(warp, matrix, k).address == address;
      rows += !seen;
    }
    most = std::max(most, rows);
  }
  return most - 1;
}

}  // namespace

void run_ldmatrix(Warp& warp, bool transpose) {
  ++stats().ldmatrix;
  for (int matrix = 0; matrix < 4; ++matrix) {
    stats().ldmatrix_replays += static_cast<std::uint64_t>(replays(warp, matrix));
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      std::uint32_t& to = static_cast<LdmatrixOperands*>(warp.lanes[lane]->call.data)->r[matrix];
      to = transpose ? element(row_of(warp, matrix, 2 * t).row, g) |
                           element(row_of(warp, matrix, 2 * t + 1).row, g) << 16
                     : row_of(warp, matrix, g).row.w[t];
    }
  }
}

void run_mma(Warp& warp) {
  ++stats().mma;
  float a[16][16], b[16][8], sum[16][8] = {};
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const auto& in = *static_cast<const MmaOperands*>(warp.lanes[lane]->call.data);
    for (int i = 0; i < 4; ++i) {
      const int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      a[row][column] = low(in.a[i]);
      a[row][column + 1] = high(in.a[i]);
    }
    b[2 * t][g] = low(in.b0);
    b[2 * t + 1][g] = high(in.b0);
    b[2 * t + 8][g] = low(in.b1);
    b[2 * t + 9][g] = high(in.b1);
  }
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) sum[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    float* d = static_cast<const MmaOperands*>(warp.lanes[lane]->call.data)->d;
    for (int i = 0; i < 4; ++i) d[i] += sum[g + i / 2 * 8][2 * t + i % 2];
  }
}

}  // namespace sim::detail
