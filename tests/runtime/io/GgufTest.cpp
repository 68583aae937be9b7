// SPDX-License-Identifier: Apache-2.0
// A file of the gguf package, and files with one fault each.
#include "runtime/io/Gguf.h"

#include "runtime/io/Dequantize.h"
#include "tests/runtime/io/Golden.h"
#include "tests/support/GgufWriter.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<GgufFile> parse(absl::string_view file) {
  return GgufFile::parse(testing::bytesOf(file), "m.gguf");
}

std::string messageOf(absl::string_view file) {
  absl::StatusOr<GgufFile> parsed = parse(file);
  return parsed.ok() ? "ok" : std::string(parsed.status().message());
}

TEST(GgufTest, ReadsAFileOfThePythonPackage) {
  const testing::Golden golden =
      testing::readGolden(testing::GoldenKind::Gguf)[0];
  absl::StatusOr<GgufFile> file = parse(golden.input);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->keys()[0], "general.architecture");
  EXPECT_EQ(*file->readText("general.architecture"), "llama");
  EXPECT_EQ(*file->readInteger("t.u8"), 200);
  EXPECT_EQ(*file->readInteger("t.i8"), -100);
  EXPECT_EQ(*file->readInteger("t.u16"), 60000);
  EXPECT_EQ(*file->readInteger("t.i16"), -30000);
  EXPECT_EQ(*file->readInteger("t.u32"), 4000000000);
  EXPECT_EQ(*file->readInteger("t.i32"), -2000000000);
  EXPECT_EQ(*file->readInteger("t.i64"), -(int64_t{1} << 62));
  EXPECT_THAT(file->readInteger("t.u64").status().message(),
              HasSubstr("LLMC-E0405: key t.u64 of m.gguf is not an integer"));
  EXPECT_EQ(*file->readNumber("t.f32"), 1.5);
  EXPECT_EQ(*file->readNumber("t.f64"), 0.1);
  EXPECT_EQ(*file->readNumber("t.u8"), 200);
  EXPECT_FALSE(file->readNumber("t.i64").ok());
  EXPECT_EQ(*file->readBool("t.bool"), true);
  EXPECT_EQ(*file->readText("t.text"), "h\xc3\xa9llo");
  EXPECT_THAT(*file->readTexts("t.texts"), ElementsAre("a", "", "bcd"));
  EXPECT_THAT(*file->readIntegers("t.integers"), ElementsAre(1, -2, 3));
  EXPECT_THAT(*file->readNumbers("t.numbers"), ElementsAre(0.5, -2.0));
  EXPECT_THAT(*file->readNumbers("t.integers"), ElementsAre(1.0, -2.0, 3.0));

  ASSERT_EQ(file->tensors().size(), 2u);
  const SourceTensor& a = file->tensors()[0];
  EXPECT_EQ(a.name, "a.weight");
  EXPECT_EQ(a.type, SourceType::F32);
  EXPECT_THAT(a.shape, ElementsAre(2, 3)); // row-major, as in NumPy
  float values[6];
  ASSERT_TRUE(readElements(a, 0, 6, values).ok());
  EXPECT_THAT(values, ElementsAre(0, 1, 2, 3, 4, 5));
  const SourceTensor& b = file->tensors()[1];
  EXPECT_EQ(b.type, SourceType::Q8_0);
  EXPECT_THAT(b.shape, ElementsAre(2, 64));
  std::vector<float> dequantized(128);
  ASSERT_TRUE(readElements(b, 0, 128, dequantized.data()).ok());
  EXPECT_EQ(dequantized, golden.values);
}

TEST(GgufTest, NamesTheKeyOfAnError) {
  GgufWriter writer;
  writer.addText("a", "x");
  writer.addU32("n", 7);
  writer.addTexts("names", {"x"});
  std::string bytes = writer.serialize();
  absl::StatusOr<GgufFile> file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->readInteger("b").status().message(),
              HasSubstr("LLMC-E0404: m.gguf has no key b"));
  EXPECT_THAT(file->readInteger("a").status().message(),
              HasSubstr("LLMC-E0405: key a of m.gguf is not an integer"));
  EXPECT_THAT(file->readIntegers("a").status().message(),
              HasSubstr("is not an array of integers"));
  EXPECT_THAT(file->readIntegers("names").status().message(),
              HasSubstr("is not an array of integers"));
  EXPECT_THAT(file->readTexts("n").status().message(),
              HasSubstr("is not an array of texts"));
  EXPECT_THAT(file->readText("n").status().message(),
              HasSubstr("is not a text"));
  EXPECT_THAT(file->readBool("n").status().message(),
              HasSubstr("is not true or false"));
  EXPECT_EQ(*file->readIntegerOr("b", 3), 3);
  EXPECT_EQ(*file->readNumberOr("b", 0.5), 0.5);
  EXPECT_EQ(*file->readBoolOr("b", true), true);
  EXPECT_EQ(*file->readTextOr("b", "none"), "none");
  EXPECT_FALSE(file->readIntegerOr("a", 3).ok());
}

TEST(GgufTest, Version2AlignmentAndEmptyFiles) {
  GgufWriter writer;
  writer.version = 2;
  writer.alignment = 8;
  writer.addTensor("a", SourceType::U8, {}, ""); // number -1: unknown
  EXPECT_THAT(messageOf(writer.serialize()), HasSubstr("LLMC-E0403"));

  GgufWriter good;
  good.version = 2;
  good.alignment = 8;
  good.addTensor("a", SourceType::I8, {3}, "abc");
  good.addTensor("b", SourceType::F16, {1, 2}, "defg");
  std::string bytes = good.serialize();
  absl::StatusOr<GgufFile> file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tensors()[1].bytes, testing::bytesOf("defg"));
  EXPECT_EQ(messageOf(GgufWriter().serialize()), "ok");
}

TEST(GgufTest, RefusesWhatItDoesNotKnow) {
  GgufWriter unknown;
  unknown.addTensorOfNumber("blk.0.w", 77, {32}, std::string(18, '\0'));
  EXPECT_THAT(messageOf(unknown.serialize()),
              HasSubstr("LLMC-E0403: tensor blk.0.w of m.gguf has the unknown "
                        "GGUF type 77"));
  GgufWriter version;
  version.version = 1;
  EXPECT_THAT(messageOf(version.serialize()),
              HasSubstr("LLMC-E0402: GGUF version 1"));
  version.version = 0x03000000;
  EXPECT_THAT(messageOf(version.serialize()),
              HasSubstr("LLMC-E0402: big-endian"));
  GgufWriter split;
  split.addU32("split.count", 3);
  EXPECT_THAT(messageOf(split.serialize()), HasSubstr("LLMC-E0406"));
  EXPECT_THAT(messageOf("GGML"), HasSubstr("does not begin with GGUF"));
}

TEST(GgufTest, RefusesDamagedFiles) {
  const std::string block(18, '\0');
  GgufWriter partBlock;
  partBlock.addTensor("a", SourceType::Q4_0, {2, 16}, block);
  EXPECT_THAT(messageOf(partBlock.serialize()),
              HasSubstr("tensor a cannot have shape [2, 16] in Q4_0"));
  GgufWriter tooBig;
  tooBig.addTensor("a", SourceType::F32, {int64_t{1} << 40, int64_t{1} << 40},
                   "");
  EXPECT_THAT(messageOf(tooBig.serialize()), HasSubstr("cannot have shape"));
  GgufWriter negative;
  negative.addTensor("a", SourceType::F32, {-4}, "");
  EXPECT_THAT(messageOf(negative.serialize()), HasSubstr("cannot have shape"));
  GgufWriter rank;
  rank.addTensor("a", SourceType::F32, {1, 1, 1, 1, 1}, "abcd");
  EXPECT_THAT(messageOf(rank.serialize()), HasSubstr("has 5 dimensions"));
  GgufWriter twice;
  twice.addTensor("a", SourceType::F32, {1}, "abcd");
  twice.addTensor("a", SourceType::F32, {1}, "abcd");
  EXPECT_THAT(messageOf(twice.serialize()), HasSubstr("tensor named twice: a"));
  GgufWriter keyTwice;
  keyTwice.addU32("k", 1);
  keyTwice.addU32("k", 1);
  EXPECT_THAT(messageOf(keyTwice.serialize()), HasSubstr("key given twice: k"));
  GgufWriter beyond;
  beyond.addTensor("a", SourceType::F32, {100}, "abcd");
  EXPECT_THAT(messageOf(beyond.serialize()),
              HasSubstr("data of tensor a ends at 400 of 32 data bytes"));
  GgufWriter hole;
  hole.addTensor("a", SourceType::F32, {1}, std::string(100, 'x'));
  hole.addTensor("b", SourceType::F32, {1}, "abcd");
  EXPECT_THAT(messageOf(hole.serialize()),
              HasSubstr("tensor b begins at 128, expected 32"));
  GgufWriter alignment;
  alignment.alignment = 24;
  EXPECT_THAT(messageOf(alignment.serialize()),
              HasSubstr("general.alignment is 24"));
}

TEST(GgufTest, RefusesDamagedValues) {
  auto messageOfValue = [](uint32_t type, absl::string_view payload) {
    GgufWriter writer;
    writer.addEncoded("k", type, payload);
    return messageOf(writer.serialize());
  };
  std::string huge, unknownElement, nested;
  testing::appendNumber<uint32_t>(huge, 6); // f32
  testing::appendNumber<uint64_t>(huge, UINT64_MAX / 4);
  testing::appendNumber<uint32_t>(unknownElement, 13);
  testing::appendNumber<uint64_t>(unknownElement, 0);
  for (int i = 0; i < 5; ++i) {
    testing::appendNumber<uint32_t>(nested, 9);
    testing::appendNumber<uint64_t>(nested, 1);
  }
  EXPECT_THAT(messageOfValue(13, ""), HasSubstr("unknown value type 13"));
  EXPECT_THAT(messageOfValue(7, "\2"), HasSubstr("bool that is not 0 or 1"));
  EXPECT_THAT(messageOfValue(9, huge), HasSubstr("longer than the file"));
  EXPECT_THAT(messageOfValue(9, unknownElement),
              HasSubstr("array of the unknown value type 13"));
  EXPECT_THAT(messageOfValue(9, nested), HasSubstr("nests arrays too deeply"));
  std::string texts;
  testing::appendNumber<uint32_t>(texts, 8);
  testing::appendNumber<uint64_t>(texts, UINT64_MAX);
  EXPECT_THAT(messageOfValue(9, texts), HasSubstr("LLMC-E0401"));
}

TEST(GgufTest, AbsurdCountsAllocateNothing) {
  std::string file = "GGUF";
  testing::appendNumber<uint32_t>(file, 3);
  testing::appendNumber<uint64_t>(file, uint64_t{1} << 60);
  testing::appendNumber<uint64_t>(file, uint64_t{1} << 60);
  EXPECT_THAT(messageOf(file), HasSubstr("do not fit in the file"));
}

TEST(GgufTest, EveryTruncationIsRefused) {
  std::string file = testing::readGolden(testing::GoldenKind::Gguf)[0].input;
  // The last tensor's padding may be missing.
  while (file.size() % 32 != 0 || file.back() == '\0')
    file.pop_back();
  for (size_t count = 0; count + 32 < file.size(); ++count)
    EXPECT_FALSE(parse(absl::string_view(file).substr(0, count)).ok()) << count;
}

} // namespace
} // namespace llmrt
