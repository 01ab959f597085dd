#include "tensor/io/npy.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace onpa::io {
namespace {

using testing::read_bytes;
using testing::TempFolder;
using testing::write_bytes;

TEST(Npy, WritesTheBytesThatNumpyWrites) {
  const TempFolder folder;
  const Tensor tensor = Tensor::from<float>({2, 3}, {0, .25f, .5f, .75f, 1, 1.25f});
  write_npy(folder / "a.npy", tensor);
  EXPECT_EQ(read_bytes(folder / "a.npy"), read_bytes(ONPA_GOLDEN_DIR "/npy_f32.npy"));
}

TEST(Npy, RoundTrips) {
  const TempFolder folder;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{7}, Shape{0, 3}, Shape{2, 3, 5}}) {
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kI32, DType::kI64}) {
      const Tensor out = Tensor::empty(shape, dtype);
      for (std::size_t i = 0; i < out.byte_count(); ++i) {
        out.bytes()[i] = static_cast<std::byte>(37 * i + 5);
      }
      write_npy(folder / "a.npy", out);
      const Tensor in = read_npy(folder / "a.npy");
      EXPECT_EQ(in.shape(), shape);
      ASSERT_EQ(in.dtype(), dtype);
      EXPECT_TRUE(std::equal(in.bytes(), in.bytes() + in.byte_count(), out.bytes()));
    }
  }
}

// A version 1.0 file with this dictionary and that many bytes of data.
std::string file_with(const std::string& dictionary, std::size_t data_bytes) {
  std::string out = std::string("\x93NUMPY") + '\x01' + '\0' +
                    static_cast<char>(dictionary.size()) + '\0' + dictionary;
  return out + std::string(data_bytes, '\0');
}

std::string error_of(const std::string& bytes) {
  const TempFolder folder;
  write_bytes(folder / "a.npy", bytes);
  try {
    read_npy(folder / "a.npy");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    const std::string prefix = (folder / "a.npy").string() + ": ";
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with(prefix)) << message;
    return message.substr(prefix.size());
  }
  return "no error";
}

TEST(Npy, RefusesMalformedFiles) {
  const std::string f4 = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
  EXPECT_EQ(error_of(file_with(f4 + "(2,), }\n", 8)), "no error");
  EXPECT_EQ(error_of(""), "npy file is cut short");
  EXPECT_EQ(error_of("not an npy file"), "not an npy file");
  EXPECT_EQ(error_of(file_with(f4 + "(2,), }\n", 7)), "7 bytes of data, want 8");
  EXPECT_EQ(error_of(file_with(f4 + "(2,), }\n", 9)), "9 bytes of data, want 8");
  EXPECT_EQ(error_of(file_with(f4 + "(2,), } x\n", 8)), "npy header: text after the dictionary");
  EXPECT_EQ(error_of(file_with(f4 + "(-2,), }", 8)), "npy header: a number expected at byte 51");
  EXPECT_EQ(error_of(file_with(f4 + "(4611686018427387904, 4611686018427387904), }", 8)),
            "npy header: the shape overflows");
  EXPECT_EQ(error_of(file_with(f4 + "(99999999999999999999,), }", 8)),
            "npy header: an extent is too large");
  EXPECT_EQ(error_of(file_with(f4 + "(1, 1, 1, 1, 1, 1, 1), }", 4)), "npy header: rank 7");
  EXPECT_EQ(error_of(file_with("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8)),
            "npy header: type '>f4', want <f4, <f8, <i4 or <i8");
  EXPECT_EQ(error_of(file_with("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }", 8)),
            "npy header: Fortran order, want C order");
  EXPECT_EQ(error_of(file_with("{'descr': '<f4', 'shape': (2,), }", 8)),
            "npy header: descr, fortran_order or shape is missing");
  EXPECT_EQ(error_of(file_with("{'descr': '<f4', 'descr': '<f4', }", 8)),
            "npy header: unknown or repeated key 'descr'");
  EXPECT_EQ(error_of(file_with("{'descr': '<f4", 8)), "npy header: text without end");
  EXPECT_EQ(error_of(std::string("\x93NUMPY\x09\x00\x00\x00", 10)), "npy version 9");
}

TEST(Npy, MissingFile) {
  try {
    read_npy("/nonexistent/a.npy");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInputMissing);
  }
}

}  // namespace
}  // namespace onpa::io
