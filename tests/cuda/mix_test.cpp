#include "kernels/mix.h"

#include <gtest/gtest.h>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/schedules.h"
#include "tests/support/random_values.h"

namespace onpa::kernels {
namespace {

using testing::DeviceArray;

TEST(MixRowsCuda, HasTheValuesOfTheCpu) {
  testing::for_schedules([] {
    for (const std::int64_t batch : {1, 2, 5}) {
      for (const std::int64_t cols : {1, 31, 256, 517}) {
        SCOPED_TRACE(::testing::Message() << batch << 'x' << cols);
        const std::vector<float> x = testing::normal_values<float>(batch * cols, 1);
        std::vector<std::int32_t> partner;
        std::vector<float> weight;
        for (std::int64_t b = 0; b < batch; ++b) {
          partner.push_back(static_cast<std::int32_t>((b * 3 + 1) % batch));
          weight.push_back(0.5f + 0.1f * static_cast<float>(b));
        }
        std::vector<float> want(x.size());
        MixRows args = {x.data(), partner.data(), weight.data(), want.data(), batch, cols};
        mix_rows(Cpu{}, args);
        const DeviceArray<float> dx(x), dweight(weight), dy(batch * cols);
        const DeviceArray<std::int32_t> dpartner(partner);
        args = {dx.data(), dpartner.data(), dweight.data(), dy.data(), batch, cols};
        mix_rows(Cuda{}, args);
        const std::vector<float> got = dy.to_host();
        // A product and a sum may be one operation on the GPU.
        for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << i;
      }
    }
  });
}

}  // namespace
}  // namespace onpa::kernels
