#include "kernels/index.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace onpa::kernels {
namespace {

// Calls add(y, b) with the tokens of sample b, cleared if the gradient is not added to.
template <class T, class Add>
void add_to_leading(const LeadingTokens<T>& args, const Add& add) {
  parallel_for(args.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      T* y = args.y + b * args.tokens * args.cols;
      if (args.mode == GradMode::kAssign) std::fill_n(y, args.tokens * args.cols, T{0});
      add(y, b);
    }
  });
}

}  // namespace

template <class T>
void leading_mean_fwd(Cpu, const LeadingTokens<T>& args) {
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
void leading_mean_bwd(Cpu, const LeadingTokens<T>& args) {
  const T scale = T{1} / static_cast<T>(args.count);
  add_to_leading(args, [&](T* y, std::int64_t b) {
    const T* x = args.x + b * args.cols;
    for (std::int64_t t = 0; t < args.count; ++t) {
      for (std::int64_t j = 0; j < args.cols; ++j) y[t * args.cols + j] += scale * x[j];
    }
  });
}

template <class T>
void leading_rows_fwd(Cpu, const LeadingTokens<T>& args) {
  for (std::int64_t b = 0; b < args.batch; ++b) {
    const T* x = args.x + b * args.tokens * args.cols;
    std::copy(x, x + args.count * args.cols, args.y + b * args.count * args.cols);
  }
}

template <class T>
void leading_rows_bwd(Cpu, const LeadingTokens<T>& args) {
  add_to_leading(args, [&](T* y, std::int64_t b) {
    const T* x = args.x + b * args.count * args.cols;
    for (std::int64_t i = 0; i < args.count * args.cols; ++i) y[i] += x[i];
  });
}

template void leading_mean_fwd<float>(Cpu, const LeadingTokens<float>&);
template void leading_mean_fwd<double>(Cpu, const LeadingTokens<double>&);
template void leading_mean_bwd<float>(Cpu, const LeadingTokens<float>&);
template void leading_mean_bwd<double>(Cpu, const LeadingTokens<double>&);
template void leading_rows_fwd<float>(Cpu, const LeadingTokens<float>&);
template void leading_rows_fwd<double>(Cpu, const LeadingTokens<double>&);
template void leading_rows_bwd<float>(Cpu, const LeadingTokens<float>&);
template void leading_rows_bwd<double>(Cpu, const LeadingTokens<double>&);

}  // namespace onpa::kernels
