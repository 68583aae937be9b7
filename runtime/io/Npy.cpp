// SPDX-License-Identifier: Apache-2.0
// The header has a fixed size, so that the number of rows can be written last.
#include "runtime/io/Npy.h"

#include "runtime/base/Error.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include <cstring>

namespace llmrt {
namespace {

constexpr absl::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kHeaderBytes = 128; // of files written here; a multiple of 64
constexpr size_t kMaxRank = 32;

struct NpyType {
  absl::string_view descr;
  SourceType type;
};

constexpr NpyType kTypes[] = {
    {"<f4", SourceType::F32}, {"<i4", SourceType::I32},
    {"<f8", SourceType::F64}, {"<i8", SourceType::I64},
    {"<f2", SourceType::F16}, {"<i2", SourceType::I16},
    {"<u8", SourceType::U64}, {"<u4", SourceType::U32},
    {"<u2", SourceType::U16}, {"|u1", SourceType::U8},
    {"|i1", SourceType::I8},  {"|b1", SourceType::Bool},
};

absl::Status corrupt(absl::string_view fileName, absl::string_view what) {
  return makeError(ErrorCode::NpyCorrupt,
                   absl::StrCat("damaged npy file ", fileName, ": ", what),
                   "write the file again with numpy.save");
}

absl::Status unsupported(absl::string_view fileName, absl::string_view what) {
  return makeError(ErrorCode::NpyUnsupported,
                   absl::StrCat("npy file ", fileName, " has ", what),
                   "save a little-endian array in C order, such as "
                   "numpy.ascontiguousarray(a, dtype='<f4')");
}

// The header is a Python dictionary literal of three fields.
struct NpyHeader {
  std::string descr;
  bool isFortranOrder = false;
  std::vector<int64_t> shape;
};

// A parser of just that literal. Each function steps over what it accepts.
class HeaderParser {
public:
  explicit HeaderParser(absl::string_view text) : text_(text) {}

  bool parse(NpyHeader& header) {
    int seen = 0; // bits: 1 descr, 2 fortran_order, 4 shape
    if (!accept("{"))
      return false;
    while (!accept("}")) {
      std::string key;
      if (!quoted(key) || !accept(":"))
        return false;
      int field = key == "descr" ? 1 : key == "fortran_order" ? 2 : 4;
      if ((field == 4 && key != "shape") || (seen & field))
        return false;
      seen |= field;
      bool isGood = field == 1   ? quoted(header.descr)
                    : field == 2 ? boolean(header.isFortranOrder)
                                 : tuple(header.shape);
      if (!isGood)
        return false;
      if (!accept(",")) {
        if (!accept("}"))
          return false;
        break;
      }
    }
    skipSpace();
    return seen == 7 && text_.empty();
  }

private:
  void skipSpace() { text_ = absl::StripLeadingAsciiWhitespace(text_); }

  bool accept(absl::string_view token) {
    skipSpace();
    if (text_.substr(0, token.size()) != token)
      return false;
    text_.remove_prefix(token.size());
    return true;
  }

  bool quoted(std::string& value) {
    skipSpace();
    if (text_.empty() || (text_[0] != '\'' && text_[0] != '"'))
      return false;
    size_t end = text_.find(text_[0], 1);
    if (end == absl::string_view::npos)
      return false;
    value = std::string(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return true;
  }

  bool boolean(bool& value) {
    value = accept("True");
    return value || accept("False");
  }

  bool tuple(std::vector<int64_t>& values) {
    if (!accept("("))
      return false;
    while (!accept(")")) {
      skipSpace();
      size_t numDigits = 0;
      while (numDigits < text_.size() && absl::ascii_isdigit(text_[numDigits]))
        ++numDigits;
      int64_t value = 0;
      if (values.size() == kMaxRank ||
          !absl::SimpleAtoi(text_.substr(0, numDigits), &value))
        return false;
      values.push_back(value);
      text_.remove_prefix(numDigits);
      if (!accept(",")) {
        // (3) is a number in Python, not a tuple.
        return values.size() > 1 && accept(")");
      }
    }
    return true;
  }

  absl::string_view text_;
};

} // namespace

absl::StatusOr<SourceTensor> parseNpy(absl::Span<const uint8_t> bytes,
                                      absl::string_view fileName) {
  if (bytes.size() < 12 ||
      std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    return corrupt(fileName, "does not begin with the npy magic");
  const uint8_t version = bytes[6];
  if (version < 1 || version > 3 || bytes[7] != 0)
    return unsupported(fileName, absl::StrCat("version ", version));
  const size_t begin = version == 1 ? 10 : 12;
  uint32_t headerBytes = 0;
  std::memcpy(&headerBytes, bytes.data() + 8, begin - 8);
  if (headerBytes > bytes.size() - begin)
    return corrupt(fileName,
                   absl::StrCat("header of ", headerBytes,
                                " bytes in a file of ", bytes.size()));
  NpyHeader header;
  absl::string_view text(reinterpret_cast<const char*>(bytes.data() + begin),
                         headerBytes);
  if (!HeaderParser(text).parse(header))
    return corrupt(fileName, "the header is not a dictionary of descr, "
                             "fortran_order and shape");
  SourceTensor tensor;
  tensor.shape = std::move(header.shape);
  const NpyType* type = nullptr;
  for (const NpyType& candidate : kTypes)
    if (candidate.descr == header.descr)
      type = &candidate;
  if (!type)
    return unsupported(fileName,
                       absl::StrCat("the element type ", header.descr));
  tensor.type = type->type;
  if (header.isFortranOrder && tensor.shape.size() > 1)
    return unsupported(fileName, "Fortran order");
  tensor.bytes = bytes.subspan(begin + headerBytes);
  std::optional<int64_t> sizeBytes = sourceSizeBytes(tensor.type, tensor.shape);
  if (!sizeBytes || static_cast<uint64_t>(*sizeBytes) != tensor.bytes.size())
    return corrupt(fileName,
                   absl::StrCat("shape ", shapeText(tensor.shape), " of ",
                                header.descr, " does not fill its ",
                                tensor.bytes.size(), " data bytes"));
  return tensor;
}

absl::StatusOr<NpyWriter> NpyWriter::create(const std::string& path,
                                            SourceType type,
                                            int64_t numColumns) {
  if ((type != SourceType::F32 && type != SourceType::I32) || numColumns < 0)
    return absl::InvalidArgumentError("npy: only f32 and i32 matrices");
  NpyWriter writer;
  writer.type_ = type;
  writer.numColumns_ = numColumns;
  LLMRT_ASSIGN_OR_RETURN(writer.file_, AtomicFile::create(path));
  LLMRT_RETURN_IF_ERROR(writer.file_.append(writer.headerText()));
  return writer;
}

std::string NpyWriter::headerText() const {
  // The largest numbers leave room to spare: 2 x 19 digits.
  constexpr uint16_t kDictionaryBytes = kHeaderBytes - 10;
  std::string dictionary =
      absl::StrCat("{'descr': '", type_ == SourceType::F32 ? "<f4" : "<i4",
                   "', 'fortran_order': False, 'shape': (", numRows_, ", ",
                   numColumns_, "), }");
  dictionary.resize(kDictionaryBytes - 1, ' ');
  const char version[] = {1, 0, kDictionaryBytes & 0xff, kDictionaryBytes >> 8};
  return absl::StrCat(kMagic, absl::string_view(version, sizeof(version)),
                      dictionary, "\n");
}

absl::Status NpyWriter::appendRow(absl::Span<const float> row) {
  return appendBytes(SourceType::F32, row.data(), row.size());
}

absl::Status NpyWriter::appendRow(absl::Span<const int32_t> row) {
  return appendBytes(SourceType::I32, row.data(), row.size());
}

absl::Status NpyWriter::appendBytes(SourceType type, const void* data,
                                    size_t count) {
  if (type != type_ || static_cast<int64_t>(count) != numColumns_)
    return absl::InvalidArgumentError(
        absl::StrCat("npy: a row of ", count, " ", sourceTypeInfo(type).name,
                     " in a matrix of ", numColumns_, " columns of ",
                     sourceTypeInfo(type_).name));
  LLMRT_RETURN_IF_ERROR(file_.append(absl::MakeConstSpan(
      static_cast<const uint8_t*>(data), count * sizeof(float))));
  ++numRows_;
  return absl::OkStatus();
}

absl::Status NpyWriter::finish() {
  std::string header = headerText();
  LLMRT_RETURN_IF_ERROR(file_.overwrite(
      0, absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(header.data()),
                             header.size())));
  return file_.commit();
}

} // namespace llmrt
