#include "kernels/elementwise.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace onpa::kernels {
namespace {

constexpr std::int64_t kGrain = 1 << 15;     // elements a range: below it threads cost more
constexpr std::int64_t kSumBlock = 1 << 14;  // elements a partial sum
constexpr std::int64_t kSumRows = 256;       // rows a partial column sum

}  // namespace

template <class T>
void axpby(Cpu, const Axpby<T>& args) {
  parallel_for(args.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    if (args.b == nullptr) {
      for (std::int64_t i = begin; i < end; ++i) args.y[i] = args.alpha * args.a[i];
    } else {
      for (std::int64_t i = begin; i < end; ++i) {
        args.y[i] = args.alpha * args.a[i] + args.beta * args.b[i];
      }
    }
  });
}

template <class T>
void multiply(Cpu, const Multiply<T>& args) {
  parallel_for(args.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    if (args.mode == GradMode::kAssign) {
      for (std::int64_t i = begin; i < end; ++i) args.y[i] = args.a[i] * args.b[i];
    } else {
      for (std::int64_t i = begin; i < end; ++i) args.y[i] += args.a[i] * args.b[i];
    }
  });
}

template <class T>
void broadcast_scalar(Cpu, const BroadcastScalar<T>& args) {
  const T value = args.alpha * args.x[0];
  parallel_for(args.n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    if (args.mode == GradMode::kAssign) {
      std::fill(args.y + begin, args.y + end, value);
    } else {
      for (std::int64_t i = begin; i < end; ++i) args.y[i] += value;
    }
  });
}

template <class T>
void column_sum(Cpu, const ColumnSum<T>& args) {
  const std::int64_t blocks = (args.rows + kSumRows - 1) / kSumRows;
  std::vector<T> partial(static_cast<std::size_t>(blocks * args.cols));
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      T* sums = partial.data() + block * args.cols;
      const std::int64_t last = std::min(args.rows, (block + 1) * kSumRows);
      for (std::int64_t r = block * kSumRows; r < last; ++r) {
        const T* row = args.x + r * args.ldx;
        for (std::int64_t j = 0; j < args.cols; ++j) sums[j] += row[j];
      }
    }
  });
  if (args.mode == GradMode::kAssign) std::fill_n(args.y, args.cols, T{0});
  for (std::int64_t block = 0; block < blocks; ++block) {
    const T* sums = partial.data() + block * args.cols;
    for (std::int64_t j = 0; j < args.cols; ++j) args.y[j] += sums[j];
  }
}

template <class T>
void sum(Cpu, const Sum<T>& args) {
  const std::int64_t blocks = (args.n + kSumBlock - 1) / kSumBlock;
  std::vector<double> partial(static_cast<std::size_t>(blocks));
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t last = std::min(args.n, (block + 1) * kSumBlock);
      double total = 0;
      for (std::int64_t i = block * kSumBlock; i < last; ++i) total += args.x[i];
      partial[static_cast<std::size_t>(block)] = total;
    }
  });
  double total = 0;
  for (const double p : partial) total += p;
  args.y[0] = static_cast<T>(args.alpha * total);
}

template void axpby<float>(Cpu, const Axpby<float>&);
template void axpby<double>(Cpu, const Axpby<double>&);
template void multiply<float>(Cpu, const Multiply<float>&);
template void multiply<double>(Cpu, const Multiply<double>&);
template void broadcast_scalar<float>(Cpu, const BroadcastScalar<float>&);
template void broadcast_scalar<double>(Cpu, const BroadcastScalar<double>&);
template void column_sum<float>(Cpu, const ColumnSum<float>&);
template void column_sum<double>(Cpu, const ColumnSum<double>&);
template void sum<float>(Cpu, const Sum<float>&);
template void sum<double>(Cpu, const Sum<double>&);

}  // namespace onpa::kernels
