#include "tensor/ops/patch.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "tests/support/gradcheck.h"

namespace onpa {
namespace {

using testing::check_gradients;
using testing::random_normal;

constexpr std::int64_t kWidth = 5, kPatchF = 3, kPatchT = 4, kTable = 7;

ops::PatchGrid small_grid() {
  return {.stride_f = 2, .stride_t = 3, .grid_f = 3, .grid_t = 4, .time_offset = 2, .keep = {}};
}
Tensor spectrogram(std::int64_t batch = 2) {
  return random_normal({batch, 8, 14}, 1);  // the grid wants 7 x 13
}
// The parameters in the order of PatchParams.
std::vector<Tensor> parameters() {
  return {random_normal({kWidth, 1, kPatchF, kPatchT}, 2),
          random_normal({kWidth}, 3),
          random_normal({1, 1, kWidth}, 4),
          random_normal({1, 1, kWidth}, 5),
          random_normal({1, 2, kWidth}, 6),
          random_normal({1, kWidth, 3, 1}, 7),
          random_normal({1, kWidth, 1, kTable}, 8)};
}
ops::PatchParams as_params(const std::vector<Tensor>& p) {
  return {p[0], p[1], p[2], p[3], p[4], p[5], p[6]};
}

TEST(PatchTokensOp, Gradients) {
  for (const std::vector<std::int32_t>& keep :
       {std::vector<std::int32_t>{}, std::vector<std::int32_t>{0, 3, 7, 11},
        std::vector<std::int32_t>{5}}) {
    SCOPED_TRACE(::testing::Message() << keep.size() << " kept");
    ops::PatchGrid grid = small_grid();
    grid.keep = keep;
    const Tensor x = spectrogram();
    check_gradients(
        [&](const std::vector<Tensor>& p) { return ops::patch_tokens(x, as_params(p), grid); },
        parameters());
  }
}

TEST(PatchTokensOp, TheGridCanBeGivenAsTensors) {
  const Tensor x = spectrogram();
  ops::PatchGrid grid = small_grid();
  grid.keep = {1, 2, 9};
  const auto run = [&] {
    std::vector<Tensor> p = parameters();
    for (Tensor& parameter : p) parameter.set_requires_grad();
    const Tensor y = ops::patch_tokens(x, as_params(p), grid);
    backward(ops::mean(ops::mul(y, y)));
    std::vector<std::vector<double>> out = {y.to_vector<double>()};
    for (const Tensor& parameter : p) out.push_back(parameter.grad().to_vector<double>());
    return out;
  };
  const auto want = run();
  grid.keep_device = Tensor::from<std::int32_t>({3}, std::vector<std::int32_t>{1, 2, 9});
  grid.time_offset_device = Tensor::from<std::int32_t>(
      {1}, std::vector<std::int32_t>{static_cast<std::int32_t>(grid.time_offset)});
  grid.keep = {0};
  grid.time_offset = 0;
  EXPECT_EQ(run(), want);
  grid.keep_device = Tensor::zeros({3});
  EXPECT_THROW(run(), Error);
}

TEST(PatchTokensOp, CountOfTokensIsExact) {
  const Tensor x = spectrogram(3);
  ops::PatchGrid grid = small_grid();
  EXPECT_EQ(ops::patch_tokens(x, as_params(parameters()), grid).shape(), (Shape{3, 14, kWidth}));
  grid.keep = {1, 2, 9};
  EXPECT_EQ(ops::patch_tokens(x, as_params(parameters()), grid).shape(), (Shape{3, 5, kWidth}));
}

// Dropping patches must give the very rows that the full grid gives at the kept cells.
TEST(PatchTokensOp, KeptTokensEqualThoseOfTheFullGrid) {
  const Tensor x = spectrogram(1);
  ops::PatchGrid grid = small_grid();
  const Tensor all = ops::patch_tokens(x, as_params(parameters()), grid);
  grid.keep = {0, 4, 5, 10};
  const Tensor some = ops::patch_tokens(x, as_params(parameters()), grid);
  const std::vector<std::int64_t> rows = {0, 1, 2 + 0, 2 + 4, 2 + 5, 2 + 10};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::int64_t c = 0; c < kWidth; ++c) {
      EXPECT_NEAR(some.span<double>()[i * kWidth + c], all.span<double>()[rows[i] * kWidth + c],
                  1e-13);
    }
  }
}

TEST(PatchTokensOp, DroppedCellsGetZeroGradient) {
  std::vector<Tensor> p = parameters();
  for (Tensor& t : p) t.set_requires_grad();
  ops::PatchGrid grid = small_grid();
  grid.keep = {4 + 1, 4 + 3};  // row 1, columns 1 and 3
  backward(ops::sum(ops::patch_tokens(spectrogram(), as_params(p), grid)));
  const Tensor freq = p[5].grad(), time = p[6].grad();
  for (std::int64_t c = 0; c < kWidth; ++c) {
    for (std::int64_t f = 0; f < 3; ++f) {
      EXPECT_EQ(freq.span<double>()[c * 3 + f], f == 1 ? 4.0 : 0.0);  // 2 samples x 2 patches
    }
    for (std::int64_t t = 0; t < kTable; ++t) {
      const bool used = t == grid.time_offset + 1 || t == grid.time_offset + 3;
      EXPECT_EQ(time.span<double>()[c * kTable + t], used ? 2.0 : 0.0);
    }
  }
}

TEST(PatchTokensOp, SpectrogramGetsNoGradient) {
  std::vector<Tensor> p = parameters();
  p[0].set_requires_grad();
  Tensor x = spectrogram();
  x.set_requires_grad();
  backward(ops::sum(ops::patch_tokens(x, as_params(p), small_grid())));
  EXPECT_FALSE(x.grad().defined());
  EXPECT_TRUE(p[0].grad().defined());
  EXPECT_FALSE(p[6].grad().defined());
}

// Runs patch_tokens and returns the message of the error, or "" if none.
std::string message_of(const Tensor& x, const std::vector<Tensor>& p, const ops::PatchGrid& grid) {
  try {
    ops::patch_tokens(x, as_params(p), grid);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(PatchTokensOp, MismatchNamesTheParameterAndBothShapes) {
  const char* const names[] = {
      "patch_embed.proj.weight", "patch_embed.proj.bias", "cls_token",         "dist_token",
      "new_pos_embed",           "freq_new_pos_embed",    "time_new_pos_embed"};
  const Tensor x = spectrogram();
  ASSERT_EQ(message_of(x, parameters(), small_grid()), "");
  for (std::size_t i = 0; i < std::size(names); ++i) {
    std::vector<Tensor> p = parameters();
    p[i] = Tensor::zeros({2, 3}, DType::kF64);
    const std::string what = message_of(x, p, small_grid());
    EXPECT_NE(what.find(std::string("patch_tokens: ") + names[i] + " has shape (2, 3), want ("),
              std::string::npos)
        << what;
    p[i] = {};
    EXPECT_NE(message_of(x, p, small_grid()), "") << names[i];
    p[i] = parameters()[i].to(DType::kF32);
    EXPECT_NE(message_of(x, p, small_grid()).find(names[i]), std::string::npos);
  }
}

TEST(PatchTokensOp, GridOutsideTheTableOrTheSpectrogramIsAnError) {
  const auto with = [](const std::function<void(ops::PatchGrid&)>& change) {
    ops::PatchGrid grid = small_grid();
    change(grid);
    return message_of(spectrogram(), parameters(), grid);
  };
  const std::string table = with([](auto& g) { g.time_offset = 4; });  // 4 + 4 > 7
  EXPECT_NE(table.find("time_new_pos_embed has shape (1, 5, 1, 7), want at least (1, 5, 1, 8)"),
            std::string::npos)
      << table;
  EXPECT_NE(with([](auto& g) { g.stride_t = 4; }).find("x has shape (2, 8, 14)"),
            std::string::npos);
  EXPECT_NE(with([](auto& g) { g.stride_f = 0; }), "");
  EXPECT_NE(with([](auto& g) { g.time_offset = -1; }), "");
  EXPECT_NE(with([](auto& g) { g.keep = {3, 3}; }), "");
  EXPECT_NE(with([](auto& g) { g.keep = {3, 12}; }), "");
  EXPECT_NE(with([](auto& g) { g.keep = {-1}; }), "");
}

}  // namespace
}  // namespace onpa
