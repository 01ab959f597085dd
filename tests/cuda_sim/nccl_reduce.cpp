// The arithmetic of the stand-in for NCCL.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/scalar.h"
#include "tests/cuda_sim/nccl_hub.h"

namespace sim::nccl {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kChunk = 64;  // elements whose sum begins at one rank

template <class T>
T add(T a, T b) {
  if constexpr (std::is_same_v<T, onpa::bf16>) {
    return onpa::bf16(static_cast<float>(a) + static_cast<float>(b));
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  } else {
    return a + b;
  }
}

// As the GPU's: a NaN gives way to a number.
template <class T>
T larger(T a, T b) {
  if constexpr (std::is_same_v<T, onpa::bf16>) {
    return onpa::bf16(std::fmax(static_cast<float>(a), static_cast<float>(b)));
  } else if constexpr (std::is_integral_v<T>) {
    return std::max(a, b);
  } else {
    return std::fmax(a, b);
  }
}

// Elements [begin, begin + count) of the reduction.
template <class T>
Bytes reduced(const std::vector<Bytes>& data, ncclRedOp_t op, std::size_t begin,
              std::size_t count) {
  Bytes out(count * sizeof(T));
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = [&](std::size_t r) {
      T x;
      std::memcpy(&x, data[r % data.size()].data() + (begin + i) * sizeof(T), sizeof x);
      return x;
    };
    const std::size_t first = (begin + i) / kChunk;
    T sum = value(first);
    for (std::size_t r = 1; r < data.size(); ++r) {
      sum = op == ncclSum ? add(sum, value(first + r)) : larger(sum, value(first + r));
    }
    std::memcpy(out.data() + i * sizeof(T), &sum, sizeof sum);
  }
  return out;
}

Bytes reduced(const Call& call, const std::vector<Bytes>& data, std::size_t begin) {
  const auto op = static_cast<ncclRedOp_t>(call.op);
  switch (static_cast<ncclDataType_t>(call.type)) {
    case ncclFloat32:
      return reduced<float>(data, op, begin, call.count);
    case ncclFloat64:
      return reduced<double>(data, op, begin, call.count);
    case ncclBfloat16:
      return reduced<onpa::bf16>(data, op, begin, call.count);
    default:
      return reduced<std::int64_t>(data, op, begin, call.count);
  }
}

}  // namespace

std::size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat32:
      return 4;
    case ncclBfloat16:
      return 2;
    case ncclFloat64:
    case ncclInt64:
      return 8;
    default:
      return 0;
  }
}

Bytes result_of(const Call& call, const std::vector<Bytes>& data, std::size_t rank) {
  switch (call.kind) {
    case Kind::kAllReduce:
      return reduced(call, data, 0);
    case Kind::kReduceScatter:
      return reduced(call, data, rank * call.count);
    case Kind::kBroadcast:
      return data[call.root];
    case Kind::kShift:
      return data[(rank + data.size() - 1) % data.size()];
    case Kind::kAllGather:
      break;
  }
  Bytes all;
  for (const Bytes& part : data) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace sim::nccl
