#include "kernels/convert.h"

#include <algorithm>

namespace onpa::kernels {

template <class T>
void fill(Cpu, const Fill<T>& a) {
  std::fill_n(a.y, a.n, a.value);
}

template <class From, class To>
void convert(Cpu, const Convert<From, To>& a) {
  std::transform(a.x, a.x + a.n, a.y, [](From v) { return static_cast<To>(v); });
}

template void fill<float>(Cpu, const Fill<float>&);
template void fill<double>(Cpu, const Fill<double>&);
template void convert<float, float>(Cpu, const Convert<float, float>&);
template void convert<float, double>(Cpu, const Convert<float, double>&);
template void convert<double, float>(Cpu, const Convert<double, float>&);
template void convert<double, double>(Cpu, const Convert<double, double>&);

}  // namespace onpa::kernels
