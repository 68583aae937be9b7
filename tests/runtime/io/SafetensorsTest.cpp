// SPDX-License-Identifier: Apache-2.0
// A file of the safetensors package, files with one fault each, the writer.
#include "runtime/io/Safetensors.h"

#include "runtime/base/MappedFile.h"
#include "tests/runtime/io/FolderTest.h"
#include "tests/runtime/io/Golden.h"
#include "tests/support/GgufWriter.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

std::string fileOf(absl::string_view header, size_t dataBytes) {
  std::string file;
  testing::appendNumber<uint64_t>(file, header.size());
  file.append(header.data(), header.size());
  file.append(dataBytes, '\1');
  return file;
}

absl::StatusOr<SafetensorsContents> parse(absl::string_view file) {
  return parseSafetensors(testing::bytesOf(file), "m.safetensors");
}

std::string messageOf(absl::string_view header, size_t dataBytes) {
  absl::StatusOr<SafetensorsContents> contents =
      parse(fileOf(header, dataBytes));
  return contents.ok() ? "ok" : std::string(contents.status().message());
}

TEST(SafetensorsTest, ReadsAFileOfThePythonPackage) {
  std::string file =
      testing::readGolden(testing::GoldenKind::Safetensors)[0].input;
  absl::StatusOr<SafetensorsContents> contents = parse(file);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_THAT(contents->metadata, ElementsAre(Pair("format", "np")));
  ASSERT_EQ(contents->tensors.size(), 6u);
  for (const SourceTensor& tensor : contents->tensors) {
    SCOPED_TRACE(tensor.name);
    if (tensor.name == "weight") {
      EXPECT_EQ(tensor.type, SourceType::F32);
      EXPECT_THAT(tensor.shape, ElementsAre(2, 3));
      float last = 0;
      std::memcpy(&last, tensor.bytes.data() + 20, 4);
      EXPECT_EQ(last, 5.0f);
    } else if (tensor.name == "ids") {
      EXPECT_EQ(tensor.type, SourceType::I64);
      EXPECT_EQ(tensor.bytes[0], 7);
    } else if (tensor.name == "scalar") {
      EXPECT_EQ(tensor.type, SourceType::F64);
      EXPECT_THAT(tensor.shape, IsEmpty());
      EXPECT_EQ(tensor.bytes.size(), 8u);
    } else if (tensor.name == "nothing") {
      EXPECT_THAT(tensor.shape, ElementsAre(0, 4));
      EXPECT_THAT(tensor.bytes, IsEmpty());
    } else if (tensor.name == "mask") {
      EXPECT_EQ(tensor.type, SourceType::Bool);
    } else {
      EXPECT_EQ(tensor.name, "half");
      EXPECT_EQ(tensor.type, SourceType::F16);
    }
  }
}

TEST(SafetensorsTest, AcceptsAnEmptyFileAndPadding) {
  EXPECT_EQ(messageOf("{}", 0), "ok");
  EXPECT_EQ(messageOf("{}   ", 0), "ok");
  EXPECT_EQ(messageOf(R"({"__metadata__":{}})", 0), "ok");
}

// Each file has one fault; the message says which.
TEST(SafetensorsTest, RefusesDamagedFiles) {
  struct Case {
    const char* header;
    size_t dataBytes;
    const char* message;
  };

  const Case cases[] = {
      {"", 0, "header does not begin with {"},
      {"[]", 0, "header does not begin with {"},
      {" {}", 0, "header does not begin with {"},
      {"{", 0, "not valid JSON at byte"},
      {"{} {}", 0, "not valid JSON at byte"},
      {"{}", 1, "tensors end at 0 of 1 data bytes"},
      {R"({"a":null})", 0, "unexpected null"},
      {R"({"a":1})", 0, "unexpected number"},
      {R"({"a":[]})", 0, "unexpected array"},
      {R"({"a":"b"})", 0, "unexpected string"},
      {R"({"a":{}})", 0, "dtype, shape or data_offsets is missing"},
      {R"({"a":{"b":{"c":{}}}})", 0, "unknown field: b (tensor a)"},
      {R"({"a":{"dtype":{}}})", 0, "unexpected object (tensor a)"},
      {R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4,
       "unexpected array (tensor a)"},
      {R"({"a":{"dtype":"F32","dtype":"F32"}})", 0, "field given twice: dtype"},
      {R"({"__metadata__":{"a":1}})", 0, "unexpected number"},
      {R"({"__metadata__":{"a":"b","a":"c"}})", 0, "key given twice: a"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
           "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "tensor named twice: a"},
      {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4,
       "LLMC-E0302: tensor a of m.safetensors has the unknown element type"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
       "negative number (tensor a)"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4,
       "number that is not an integer"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
       "tensor a of F32 [2] does not fill its 4 bytes"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775808],
           "data_offsets":[0,4]}})",
       4, "unexpected number"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],
           "data_offsets":[0,0]}})",
       0, "does not fill its 0 bytes"},
      {R"({"a":{"dtype":"F64","shape":[2305843009213693952],
           "data_offsets":[0,0]}})",
       0, "does not fill its 0 bytes"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", 4,
       "unexpected number"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4]}})", 4,
       "data_offsets needs two numbers"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4,
       "lies outside the file"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3,
       "lies outside the file: [0, 4) of 3"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
           "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
       6, "tensor b overlaps another's: begins at 2, expected 4"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
           "b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
       10, "tensor b leaves a hole before it: begins at 6, expected 4"},
  };
  for (const Case& c : cases) {
    std::string message = messageOf(c.header, c.dataBytes);
    EXPECT_THAT(message, HasSubstr("LLMC-E030")) << c.header;
    EXPECT_THAT(message, HasSubstr(c.message)) << c.header;
  }
}

TEST(SafetensorsTest, RefusesAbsurdHeaderLengths) {
  for (uint64_t length : {uint64_t{3}, uint64_t{1} << 32, UINT64_MAX}) {
    std::string file;
    testing::appendNumber(file, length);
    file += "{}";
    EXPECT_THAT(parse(file).status().message(), HasSubstr("LLMC-E0301"));
  }
  EXPECT_FALSE(parse("").ok());
  EXPECT_FALSE(parse("\2\0\0").ok());
}

// Millions of nested brackets end at the first that has no business there.
TEST(SafetensorsTest, DeepNestingCostsNothing) {
  EXPECT_THAT(messageOf("{\"a\":" + std::string(10'000'000, '['), 0),
              HasSubstr("unexpected array"));
}

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  std::string file =
      testing::readGolden(testing::GoldenKind::Safetensors)[0].input;
  for (size_t count = 0; count < file.size(); ++count)
    EXPECT_FALSE(parse(absl::string_view(file).substr(0, count)).ok()) << count;
}

class SafetensorsWriterTest : public testing::FolderTest {};

TEST_F(SafetensorsWriterTest, WritesWhatItsReaderReads) {
  const std::string path = pathOf("model.safetensors");
  const std::string quote = "a\"b\\c\n\xc3\xa9";
  absl::StatusOr<SafetensorsWriter> writer =
      SafetensorsWriter::create(path,
                                {{quote, SourceType::F32, {2, 1}},
                                 {"zero", SourceType::BF16, {0}},
                                 {"scalar", SourceType::U8, {}}},
                                {{"step", "7"}, {"format", "pt"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->append(testing::bytesOf("abc")).ok());
  EXPECT_FALSE(writer->finish().ok());
  ASSERT_TRUE(writer->append(testing::bytesOf("defghi")).ok());
  EXPECT_FALSE(writer->append(testing::bytesOf("j")).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->finish().ok());

  absl::StatusOr<MappedFile> file = MappedFile::open(path);
  ASSERT_TRUE(file.ok());
  absl::StatusOr<SafetensorsContents> contents =
      parseSafetensors(file->bytes(), path);
  ASSERT_TRUE(contents.ok()) << contents.status();
  ASSERT_EQ(contents->tensors.size(), 3u);
  EXPECT_EQ(contents->tensors[0].name, quote);
  EXPECT_EQ(contents->tensors[0].bytes, testing::bytesOf("abcdefgh"));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(contents->tensors[0].bytes.data()) % 8,
            0u);
  for (const SourceTensor& tensor : contents->tensors) {
    if (tensor.name == "scalar") {
      EXPECT_EQ(tensor.bytes, testing::bytesOf("i"));
    }
  }
  EXPECT_THAT(contents->metadata,
              ElementsAre(Pair("format", "pt"), Pair("step", "7")));
}

TEST_F(SafetensorsWriterTest, RefusesWhatTheFormatCannotHold) {
  const std::string path = pathOf("model.safetensors");
  EXPECT_FALSE(
      SafetensorsWriter::create(path, {{"a", SourceType::Q4_1, {32}}}, {})
          .ok());
  EXPECT_FALSE(
      SafetensorsWriter::create(
          path, {{"a", SourceType::F32, {1}}, {"a", SourceType::F32, {1}}}, {})
          .ok());
  EXPECT_FALSE(SafetensorsWriter::create(
                   path, {{"__metadata__", SourceType::F32, {1}}}, {})
                   .ok());
  EXPECT_FALSE(
      SafetensorsWriter::create(path, {{"a", SourceType::F32, {-1}}}, {}).ok());
  EXPECT_EQ(numFiles(), 0u);
}

} // namespace
} // namespace llmrt
