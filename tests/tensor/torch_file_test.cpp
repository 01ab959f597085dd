#include "tensor/io/torch_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "tensor/io/torch_file_write.h"
#include "tests/support/temp_folder.h"

namespace onpa::io {
namespace {

using testing::read_bytes;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(ONPA_GOLDEN_DIR) / ("torch_" + name);
}

// ramp(count) of tests/golden/make_torch_files.py.
std::vector<float> ramp(std::size_t count) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(i) * 0.5f - 1;
  return out;
}

PickleRef ref_of(const TorchFile& file, const std::string& name) {
  const PickleValue& dict = file.content.top();
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    if (file.content[dict.items[i]].text == name) return dict.items[i + 1];
  }
  ADD_FAILURE() << "no tensor " << name;
  return file.content.root;
}

class TorchKinds : public ::testing::TestWithParam<const char*> {
 protected:
  Tensor tensor(const std::string& name) const {
    const PickleRef ref = ref_of(file_, name);
    return read_tensors(file_, std::span(&ref, 1)).front();
  }
  void expect(const std::string& name, const Shape& shape, const std::vector<float>& values) const {
    EXPECT_EQ(tensor(name).shape(), shape) << name;
    EXPECT_EQ(tensor(name).to_vector<float>(), values) << name;
  }

  const TorchFile file_ = read_torch_file(golden(GetParam()));
};

TEST_P(TorchKinds, HaveTheValuesThatWereSaved) {
  expect("whole", {3, 4}, ramp(12));
  expect("turned", {4, 3}, {-1, 1, 3, -0.5f, 1.5f, 3.5f, 0, 2, 4, 0.5f, 2.5f, 4.5f});
  expect("rows", {2, 4}, {1, 1.5f, 2, 2.5f, 3, 3.5f, 4, 4.5f});
  expect("column", {3}, {-0.5f, 1.5f, 3.5f});
  expect("parameter", {2, 3}, ramp(6));
  expect("half", {4}, ramp(4));
  expect("brain", {4}, ramp(4));
  expect("double", {3}, ramp(3));
  expect("scalar", {}, {2.5f});
  expect("empty", {0, 4}, {});
  EXPECT_EQ(type_of(file_, ref_of(file_, "half")), StorageType::kF16);
  EXPECT_EQ(type_of(file_, ref_of(file_, "num_batches_tracked")), StorageType::kI64);
}

INSTANTIATE_TEST_SUITE_P(Versions, TorchKinds,
                         ::testing::Values("kinds_1_6.pt", "kinds_1_8.pt", "kinds_1_12.pt",
                                           "kinds_2_15.pt", "kinds_2_15_p5.pt",
                                           "kinds_2_15_old.pt"));

TEST(TorchFile, BytesInMemoryGiveWhatTheFileGives) {
  const std::string bytes = read_bytes(golden("kinds_2_15.pt"));
  const TorchFile file = read_torch_file(std::as_bytes(std::span(bytes)), "memory");
  const PickleRef ref = ref_of(file, "whole");
  EXPECT_EQ(read_tensors(file, std::span(&ref, 1)).front().to_vector<float>(), ramp(12));
}

// torch.serialization.set_crc32_options(False) leaves zeros where the checksums would be.
TEST(TorchFile, ChecksumsMayBeMissingFromAllEntries) {
  const std::string whole = read_bytes(golden("kinds_2_15.pt"));
  std::string none = whole;
  std::vector<std::size_t> entries;
  for (std::size_t at = none.find("PK\1\2"); at != none.npos; at = none.find("PK\1\2", at + 1)) {
    entries.push_back(at);
    none.replace(at + 16, 4, 4, '\0');
  }
  ASSERT_GT(entries.size(), 4u);
  const TorchFile file = read_torch_file(std::as_bytes(std::span(none)), "none");
  EXPECT_EQ(file.container, "torch zip, without checksums");
  const PickleRef ref = ref_of(file, "whole");
  EXPECT_EQ(read_tensors(file, std::span(&ref, 1)).front().to_vector<float>(), ramp(12));

  // One entry alone without its checksum is damage.
  std::string one = whole;
  one.replace(entries[0] + 16, 4, 4, '\0');
  EXPECT_THROW(read_torch_file(std::as_bytes(std::span(one)), "one"), Error);
}

TEST(TorchFile, BigEndianStoragesAreTurned) {
  const TorchFile file = read_torch_file(golden("big.pt"));
  const PickleRef ref = ref_of(file, "head.weight");
  EXPECT_EQ(read_tensors(file, std::span(&ref, 1)).front().to_vector<float>(), ramp(4));
}

TEST(TorchFile, WhatIsWrittenIsReadAgain) {
  const testing::TempFolder folder;
  const Tensor matrix = Tensor::from<float>({2, 3}, ramp(6));
  const NamedTensors tensors = {
      {"a.weight", matrix}, {"scalar", Tensor::full({}, 2.5)}, {"empty", Tensor::zeros({0, 4})}};
  write_torch_file(folder / "a.pt", tensors, {{"kind", "passt"}, {"mel.hop_samples", "160"}});
  const TorchFile file = read_torch_file(folder / "a.pt");
  EXPECT_EQ(file.metadata.at("mel.hop_samples"), "160");
  for (const auto& [name, tensor] : tensors) {
    const PickleRef ref = ref_of(file, name);
    const Tensor got = read_tensors(file, std::span(&ref, 1)).front();
    EXPECT_EQ(got.shape(), tensor.shape()) << name;
    EXPECT_EQ(got.to_vector<float>(), tensor.to_vector<float>()) << name;
  }
  const std::string bytes = read_bytes(folder / "a.pt");
  const std::string data(reinterpret_cast<const char*>(matrix.bytes()), matrix.byte_count());
  EXPECT_EQ(bytes.find(data) % 64, 0u);
  write_torch_file(folder / "b.pt", tensors);
  EXPECT_TRUE(read_torch_file(folder / "b.pt").metadata.empty());
  // Nothing but the two files stays.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
}

}  // namespace
}  // namespace onpa::io
