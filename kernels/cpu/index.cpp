#include "kernels/index.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace onpa::kernels {

template <class T>
void gather_rows(Cpu, const GatherRows<T>& args) {
  parallel_for(args.batch * args.kept, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b = i / args.kept;
      const T* row = args.x + (b * args.rows + args.index[i % args.kept]) * args.cols;
      std::copy(row, row + args.cols, args.y + i * args.cols);
    }
  });
}

template <class T>
void scatter_rows(Cpu, const ScatterRows<T>& args) {
  // One thread owns a sample: an index may repeat.
  parallel_for(args.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      T* dx = args.dx + b * args.rows * args.cols;
      if (args.mode == GradMode::kAssign) std::fill_n(dx, args.rows * args.cols, T{0});
      for (std::int64_t i = 0; i < args.kept; ++i) {
        const T* dy = args.dy + (b * args.kept + i) * args.cols;
        T* row = dx + args.index[i] * args.cols;
        for (std::int64_t j = 0; j < args.cols; ++j) row[j] += dy[j];
      }
    }
  });
}

template <class T>
void leading_mean_fwd(Cpu, const LeadingMeanFwd<T>& args) {
  const T scale = T{1} / static_cast<T>(args.count);
  for (std::int64_t b = 0; b < args.batch; ++b) {
    const T* x = args.x + b * args.tokens * args.cols;
    T* y = args.y + b * args.cols;
    std::fill_n(y, args.cols, T{0});
    for (std::int64_t t = 0; t < args.count; ++t) {
      for (std::int64_t j = 0; j < args.cols; ++j) y[j] += x[t * args.cols + j];
    }
    for (std::int64_t j = 0; j < args.cols; ++j) y[j] *= scale;
  }
}

template <class T>
void leading_mean_bwd(Cpu, const LeadingMeanBwd<T>& args) {
  const T scale = T{1} / static_cast<T>(args.count);
  parallel_for(args.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      T* dx = args.dx + b * args.tokens * args.cols;
      if (args.mode == GradMode::kAssign) std::fill_n(dx, args.tokens * args.cols, T{0});
      const T* dy = args.dy + b * args.cols;
      for (std::int64_t t = 0; t < args.count; ++t) {
        for (std::int64_t j = 0; j < args.cols; ++j) dx[t * args.cols + j] += scale * dy[j];
      }
    }
  });
}

template <class T>
void leading_rows_fwd(Cpu, const LeadingRows<T>& args) {
  for (std::int64_t b = 0; b < args.batch; ++b) {
    const T* x = args.x + b * args.tokens * args.cols;
    std::copy(x, x + args.count * args.cols, args.y + b * args.count * args.cols);
  }
}

template <class T>
void leading_rows_bwd(Cpu, const LeadingRows<T>& args) {
  parallel_for(args.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      T* y = args.y + b * args.tokens * args.cols;
      if (args.mode == GradMode::kAssign) std::fill_n(y, args.tokens * args.cols, T{0});
      const T* x = args.x + b * args.count * args.cols;
      for (std::int64_t i = 0; i < args.count * args.cols; ++i) y[i] += x[i];
    }
  });
}

template void gather_rows<float>(Cpu, const GatherRows<float>&);
template void gather_rows<double>(Cpu, const GatherRows<double>&);
template void scatter_rows<float>(Cpu, const ScatterRows<float>&);
template void scatter_rows<double>(Cpu, const ScatterRows<double>&);
template void leading_mean_fwd<float>(Cpu, const LeadingMeanFwd<float>&);
template void leading_mean_fwd<double>(Cpu, const LeadingMeanFwd<double>&);
template void leading_mean_bwd<float>(Cpu, const LeadingMeanBwd<float>&);
template void leading_mean_bwd<double>(Cpu, const LeadingMeanBwd<double>&);
template void leading_rows_fwd<float>(Cpu, const LeadingRows<float>&);
template void leading_rows_fwd<double>(Cpu, const LeadingRows<double>&);
template void leading_rows_bwd<float>(Cpu, const LeadingRows<float>&);
template void leading_rows_bwd<double>(Cpu, const LeadingRows<double>&);

}  // namespace onpa::kernels
