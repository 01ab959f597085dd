#include "nn/load.h"

#include <gtest/gtest.h>

#include "nn/init.h"
#include "nn/linear.h"

namespace onpa::nn {
namespace {

io::NamedTensors values(float value) {
  return {{"weight", Tensor::full({2, 3}, value)}, {"bias", Tensor::full({2}, value)}};
}

std::string message_of(Linear& module, const io::NamedTensors& tensors, bool strict = true) {
  try {
    load_parameters(module, tensors, strict);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint);
    return error.what();
  }
  return "";
}

TEST(Load, CopiesByName) {
  Linear linear(3, 2);
  io::NamedTensors tensors = values(4);
  std::swap(tensors[0], tensors[1]);
  const LoadReport report = load_parameters(linear, tensors);
  EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
  EXPECT_EQ(linear.weight().to_vector<float>(), std::vector<float>(6, 4));
  EXPECT_EQ(linear.bias().to_vector<float>(), std::vector<float>(2, 4));
}

TEST(Load, RoundsDoubles) {
  Linear linear(3, 2);
  io::NamedTensors tensors = values(1);
  tensors[1].second = Tensor::full({2}, 0.1, DType::kF64);
  load_parameters(linear, tensors);
  EXPECT_EQ(linear.bias().data<float>()[0], 0.1f);
}

TEST(Load, NamesTensorAndBothShapesAndChangesNothing) {
  Linear linear(3, 2);
  load_parameters(linear, values(1));
  io::NamedTensors tensors = values(2);
  tensors[1].second = Tensor::full({3}, 2);
  EXPECT_EQ(message_of(linear, tensors), "load: tensor bias has shape (3), want (2)");
  EXPECT_EQ(linear.weight().data<float>()[0], 1);
  // A shape mismatch is an error without `strict` too.
  EXPECT_NE(message_of(linear, tensors, false), "");
}

TEST(Load, ListsMissingAndUnexpectedNames) {
  Linear linear(3, 2);
  fill_constant(linear.bias(), 9);
  const io::NamedTensors tensors = {{"weight", Tensor::full({2, 3}, 1)},
                                    {"extra.bias", Tensor::full({1}, 1)}};
  EXPECT_EQ(message_of(linear, tensors), "load: missing bias; unexpected extra.bias");
  const LoadReport report = load_parameters(linear, tensors, false);
  EXPECT_EQ(report.missing, std::vector<std::string>{"bias"});
  EXPECT_EQ(report.unexpected, std::vector<std::string>{"extra.bias"});
  EXPECT_EQ(linear.bias().data<float>()[0], 9);
  EXPECT_EQ(linear.weight().data<float>()[0], 1);
}

TEST(Load, RejectsRepeatedNamesAndIntegers) {
  Linear linear(3, 2);
  io::NamedTensors tensors = values(1);
  tensors.push_back(tensors[0]);
  EXPECT_EQ(message_of(linear, tensors), "load: tensor weight occurs twice");
  tensors = values(1);
  tensors[1].second = Tensor::empty({2}, DType::kI32);
  EXPECT_NE(message_of(linear, tensors).find("bias is i32"), std::string::npos);
}

}  // namespace
}  // namespace onpa::nn
