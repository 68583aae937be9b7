// SPDX-License-Identifier: Apache-2.0
// Files of NumPy, faults, and the streaming writer.
#include "runtime/io/Npy.h"

#include "runtime/base/MappedFile.h"
#include "runtime/io/Dequantize.h"
#include "tests/runtime/io/FolderTest.h"
#include "tests/runtime/io/Golden.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<SourceTensor> parse(absl::string_view file) {
  return parseNpy(testing::bytesOf(file), "a.npy");
}

std::string messageOf(absl::string_view dictionary, size_t dataBytes) {
  std::string file("\x93NUMPY\1\0", 8);
  file += static_cast<char>(dictionary.size());
  file += '\0';
  file.append(dictionary.data(), dictionary.size());
  file.append(dataBytes, '\0');
  absl::StatusOr<SourceTensor> array = parse(file);
  return array.ok() ? shapeText(array->shape)
                    : std::string(array.status().message());
}

TEST(NpyTest, ReadsFilesOfNumPy) {
  std::vector<testing::Golden> files =
      testing::readGolden(testing::GoldenKind::Npy);
  ASSERT_EQ(files.size(), 3u);
  for (const testing::Golden& golden : files) {
    absl::StatusOr<SourceTensor> array = parse(golden.input);
    ASSERT_TRUE(array.ok()) << golden.name << array.status();
    EXPECT_THAT(array->shape, ElementsAre(2, 3));
    std::vector<float> values(6);
    ASSERT_TRUE(readElements(*array, 0, 6, values.data()).ok());
    EXPECT_EQ(values, golden.values);
    for (size_t count = 0; count < golden.input.size(); ++count)
      EXPECT_FALSE(
          parse(absl::string_view(golden.input).substr(0, count)).ok());
  }
}

TEST(NpyTest, ReadsWhatPythonMayWrite) {
  auto dictionary = [](absl::string_view shape) {
    return absl::StrCat(
        "{'descr': '<f4', 'fortran_order': False, 'shape': ", shape, "}\n");
  };
  EXPECT_EQ(messageOf(dictionary("()"), 4), "[]");
  EXPECT_EQ(messageOf(dictionary("(3,)"), 12), "[3]");
  EXPECT_EQ(messageOf(dictionary("(0, 5)"), 0), "[0, 5]");
  EXPECT_EQ(messageOf(dictionary("(2,1,)"), 8), "[2, 1]");
  EXPECT_THAT(messageOf(dictionary("(3)"), 12), HasSubstr("LLMC-E0308"));
  EXPECT_THAT(messageOf(dictionary("(3,)"), 13),
              HasSubstr("does not fill its 13 data bytes"));
  EXPECT_THAT(messageOf(dictionary("(-3,)"), 12), HasSubstr("LLMC-E0308"));
  EXPECT_THAT(messageOf(dictionary("(99999999999999999999,)"), 12),
              HasSubstr("LLMC-E0308"));
  EXPECT_THAT(messageOf(dictionary("(4294967296, 4294967296)"), 12),
              HasSubstr("LLMC-E0308"));
  EXPECT_THAT(messageOf("{'descr': '>f4', 'fortran_order': False, "
                        "'shape': (1,), }",
                        4),
              HasSubstr("LLMC-E0309: npy file a.npy has the element type >f4"));
  EXPECT_THAT(messageOf("{'descr': '<f4', 'fortran_order': True, "
                        "'shape': (1, 1), }",
                        4),
              HasSubstr("Fortran order"));
  EXPECT_THAT(messageOf("{'descr': '<f4', 'shape': (1,), }", 4),
              HasSubstr("LLMC-E0308"));
  EXPECT_THAT(messageOf("{'descr': '<f4', 'descr': '<f4', "
                        "'fortran_order': False, 'shape': (1,), }",
                        4),
              HasSubstr("LLMC-E0308"));
}

class NpyWriterTest : public testing::FolderTest {};

TEST_F(NpyWriterTest, WritesRowByRow) {
  const std::string path = pathOf("logits.npy");
  absl::StatusOr<NpyWriter> writer =
      NpyWriter::create(path, SourceType::F32, 3);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (float row : {0.0f, 1.0f}) {
    const float values[] = {row, row + 0.5f, -row};
    ASSERT_TRUE(writer->appendRow(absl::MakeConstSpan(values)).ok());
  }
  EXPECT_FALSE(writer->appendRow(absl::Span<const float>()).ok());
  EXPECT_FALSE(writer->appendRow(std::vector<int32_t>{1, 2, 3}).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_EQ(numFiles(), 1u);
  absl::StatusOr<MappedFile> file = MappedFile::open(path);
  ASSERT_TRUE(file.ok());
  absl::StatusOr<SourceTensor> array = parseNpy(file->bytes(), path);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_THAT(array->shape, ElementsAre(2, 3));
  float values[6];
  ASSERT_TRUE(readElements(*array, 0, 6, values).ok());
  EXPECT_THAT(values, ElementsAre(0, 0.5, 0, 1, 1.5, -1));
}

TEST_F(NpyWriterTest, NoRowsAndAbandonedFiles) {
  absl::StatusOr<NpyWriter> writer =
      NpyWriter::create(pathOf("a.npy"), SourceType::I32, 7);
  ASSERT_TRUE(writer->finish().ok());
  absl::StatusOr<MappedFile> file = MappedFile::open(pathOf("a.npy"));
  EXPECT_THAT(parseNpy(file->bytes(), "a.npy")->shape, ElementsAre(0, 7));
  { auto abandoned = NpyWriter::create(pathOf("b.npy"), SourceType::I32, 7); }
  EXPECT_EQ(numFiles(), 1u);
  EXPECT_FALSE(NpyWriter::create(pathOf("c.npy"), SourceType::F16, 7).ok());
}

} // namespace
} // namespace llmrt
