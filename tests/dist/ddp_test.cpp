#include "dist/ddp.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dist/local.h"
#include "tensor/autograd.h"
#include "tensor/ops/linear.h"
#include "tests/dist/train_checks.h"
#include "tests/support/gradcheck.h"

namespace onpa::dist {
namespace {

using onpa::testing::random_normal;

class DdpAt : public ::testing::TestWithParam<int> {};

TEST_P(DdpAt, TrainsToTheWeightsOfOneRank) {
  run_local(GetParam(), testing::check_training);
}

INSTANTIATE_TEST_SUITE_P(Ranks, DdpAt, ::testing::Values(1, 2, 4, 8),
                         [](const auto& info) { return std::to_string(info.param); });

// Three layers without biases: slots of 80, 16 and 48 elements.
struct Layers {
  Layers()
      : a(made({5, 16})),
        b(made({3, 5})),
        c(made({16, 3})),
        params({{"a", &a}, {"b", &b}, {"c", &c}}) {}
  static Tensor made(const Shape& shape) {
    return random_normal(shape, 3, 1, DType::kF32).set_requires_grad();
  }
  Tensor output() const {
    const Tensor x = random_normal({2, 16}, 4, 1, DType::kF32);
    return ops::sum(ops::linear(ops::linear(ops::linear(x, a), b), c));
  }
  Tensor a, b, c;
  FlatParams params;
};

TEST(Buckets, AreSlicesFromTheEndThatCoverAll) {
  const Layers layers;
  const auto cut = [&](std::int64_t first, std::int64_t rest) {
    std::vector<std::vector<std::int64_t>> out;
    for (const Bucket& b : cut_buckets(layers.params, {.first_bytes = first, .bytes = rest})) {
      out.push_back({b.begin, b.end, static_cast<std::int64_t>(b.first_slot),
                     static_cast<std::int64_t>(b.last_slot)});
    }
    return out;
  };
  using Want = std::vector<std::vector<std::int64_t>>;
  EXPECT_EQ(cut(1, 1), (Want{{96, 144, 2, 2}, {80, 96, 1, 1}, {0, 80, 0, 0}}));
  EXPECT_EQ(cut(192, 65), (Want{{96, 144, 2, 2}, {0, 96, 0, 1}}));
  EXPECT_EQ(cut(193, 1), (Want{{80, 144, 1, 2}, {0, 80, 0, 0}}));
  EXPECT_EQ(cut(1 << 20, 1), (Want{{0, 144, 0, 2}}));
  EXPECT_THROW(cut(0, 1), Error);
  EXPECT_THROW(cut(1, -1), Error);
}

TEST(Buckets, LeaveOutWhatIsFrozen) {
  const auto cut = [](const std::vector<bool>& learns) {
    Tensor a = Layers::made({5, 16}), b = Layers::made({3, 5}), c = Layers::made({16, 3});
    a.set_requires_grad(learns[0]);
    b.set_requires_grad(learns[1]);
    c.set_requires_grad(learns[2]);
    const FlatParams params({{"a", &a}, {"b", &b}, {"c", &c}});
    std::string out;
    for (const Bucket& bucket : cut_buckets(params, {.first_bytes = 1, .bytes = 1})) {
      for (std::size_t s = bucket.first_slot; s <= bucket.last_slot; ++s) {
        out += params.slots()[s].name;
      }
      EXPECT_EQ(bucket.begin, params.slots()[bucket.first_slot].offset);
      out += std::to_string(bucket.end - bucket.begin) + " ";
    }
    return out;
  };
  EXPECT_EQ(cut({true, true, true}), "c48 b16 a80 ");
  EXPECT_EQ(cut({false, true, true}), "c48 b16 ");
  EXPECT_EQ(cut({true, false, true}), "c48 a80 ");
  EXPECT_EQ(cut({true, false, false}), "a80 ");
  EXPECT_EQ(cut({false, false, false}), "");
}

// A rank alone, whose all_reduces end when they are waited for, and which notes when they start.
class NotingComm : public Comm {
 public:
  explicit NotingComm(const Layers& layers) : Comm(0, 1), layers_(layers) {}
  void abort(int) override { std::abort(); }

  std::int64_t bytes = 0;
  std::vector<std::string> notes;  // of each call, which gradients were there

 protected:
  Work start(Collective c) override {
    if (c.kind != Collective::Kind::kAllReduce) return {};
    bytes += static_cast<std::int64_t>(c.in.byte_count());
    std::string there;
    if (layers_.a.grad().defined()) there += "a";
    if (layers_.b.grad().defined()) there += "b";
    if (layers_.c.grad().defined()) there += "c";
    notes.push_back(there);
    EXPECT_GE(c.in.data<float>(), layers_.params.grad().data<float>());
    EXPECT_LT(c.in.data<float>(), layers_.params.grad().data<float>() + layers_.params.numel());
    return {};
  }

 private:
  const Layers& layers_;
};

TEST(Ddp, ReducesABucketWhileGradientsOfEarlierLayersAreMissing) {
  Layers layers;
  NotingComm comm(layers);
  Ddp ddp(comm, layers.params, {.first_bytes = 1, .bytes = 1});
  for (int step = 0; step < 2; ++step) {
    comm.notes.clear();
    comm.bytes = 0;
    layers.params.clear_grad();
    backward(layers.output());  // a micro-batch before the last sends nothing
    EXPECT_TRUE(comm.notes.empty());
    layers.params.clear_grad();
    ddp.backward(layers.output());
    EXPECT_EQ(comm.notes, (std::vector<std::string>{"c", "bc", "abc"}));
    ddp.wait();
    EXPECT_EQ(comm.notes.size(), 3u);
    EXPECT_EQ(comm.bytes, 4 * layers.params.numel());
  }
}

// The first bucket has a parameter that is not used: it holds the others up in the first step only.
TEST(Ddp, LaterStepsFollowTheOrderOfTheFirst) {
  Layers layers;
  NotingComm comm(layers);
  Ddp ddp(comm, layers.params, {.first_bytes = 1, .bytes = 1});
  const Tensor x = Tensor::full({1, 16}, 1);
  for (const bool first : {true, false, false}) {
    comm.notes.clear();
    layers.params.clear_grad();
    ddp.backward(ops::sum(ops::linear(ops::linear(x, layers.a), layers.b)));
    EXPECT_EQ(comm.notes,
              first ? std::vector<std::string>{} : (std::vector<std::string>{"b", "ab"}));
    ddp.wait();
    EXPECT_EQ(comm.notes.size(), 3u);
  }
}

TEST(Ddp, BucketsStartInTheirOrder) {
  Layers layers;
  NotingComm comm(layers);
  Ddp ddp(comm, layers.params, {.first_bytes = 1, .bytes = 1});
  ddp.begin();
  ddp.mark_ready(0);
  ddp.mark_ready(1);
  EXPECT_EQ(comm.notes.size(), 0u);
  ddp.mark_ready(2);
  EXPECT_EQ(comm.notes.size(), 3u);
  ddp.wait();
}

TEST(Ddp, CallsOutOfOrderAreErrors) {
  Layers layers;
  NotingComm comm(layers);
  Ddp ddp(comm, layers.params);
  EXPECT_THROW(ddp.wait(), Error);
  EXPECT_THROW(ddp.mark_ready(0), Error);
  ddp.begin();
  EXPECT_THROW(ddp.begin(), Error);
  EXPECT_THROW(ddp.mark_ready(3), Error);
  ddp.mark_ready(1);
  try {
    ddp.mark_ready(1);
    ADD_FAILURE() << "marked twice";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("gradient of b"), std::string::npos) << e.what();
  }
}

// Rank 1 does not use the last layer, and its memory holds something old; rank 2 has its gradient
// from a micro-batch before the last alone.
TEST(Ddp, GradientsThatOnlySomeRanksHaveAreSummed) {
  run_local(3, [](Comm& comm) {
    Layers layers;
    FlatParams& params = layers.params;
    Ddp ddp(comm, params, {.first_bytes = 1, .bytes = 1});
    const Tensor x = Tensor::full({1, 16}, 1);
    for (int step = 0; step < 3; ++step) {
      params.grad().copy_from(Tensor::full({params.numel()}, 99));
      params.clear_grad();
      if (comm.rank() == 2) backward(ops::sum(ops::linear(Tensor::full({1, 3}, 5), layers.c)));
      const Tensor h = ops::linear(ops::linear(x, layers.a), layers.b);
      ddp.backward(ops::sum(comm.rank() == 0 ? ops::linear(Tensor::full({1, 3}, 2), layers.c) : h));
      ddp.wait();
      params.finish_grad();  // nothing is left for it
      const auto c = params.view(params.grad(), params.slots()[2]).to_vector<float>();
      EXPECT_EQ(c, std::vector<float>(48, 7)) << "rank " << comm.rank() << ", step " << step;
      const float first = params.grad().data<float>()[0];
      Tensor same = Tensor::full({1}, first);
      comm.all_reduce(same, ReduceOp::kMax);
      EXPECT_EQ(same.data<float>()[0], first);
    }
  });
}

TEST(Ddp, BuffersAndParametersAreThoseOfRankZero) {
  run_local(3, [](Comm& comm) {
    Layers layers;
    layers.params.data().copy_from(Tensor::full({layers.params.numel()}, comm.rank() + 1));
    const Tensor mean = Tensor::full({5}, comm.rank() + 4, DType::kF64);
    Ddp(comm, layers.params).broadcast({mean});
    EXPECT_EQ(layers.b.to_vector<float>(), std::vector<float>(15, 1));
    EXPECT_EQ(mean.to_vector<double>(), std::vector<double>(5, 4));
  });
}

}  // namespace
}  // namespace onpa::dist
