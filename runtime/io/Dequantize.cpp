// SPDX-License-Identifier: Apache-2.0
// One struct per format says how a block becomes floats; plain loops that the
// compiler vectorises, compiled once per instruction set and chosen at run
// time. Vector width changes no bit: every element is computed by itself,
// without contraction. Block layouts: ggml/src/ggml-common.h, values:
// dequantize_row_* of ggml-quants.c.
#include "runtime/io/Dequantize.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cstring>

#define LLMRT_INLINE [[gnu::always_inline]] static inline

namespace llmrt {
namespace {

template <class T>
LLMRT_INLINE T loadAs(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

LLMRT_INLINE float loadF16(const uint8_t* bytes) {
  return floatFromF16(loadAs<uint16_t>(bytes));
}

struct F64Format {
  static constexpr int64_t kElements = 1, kBytes = 8;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    *out = static_cast<float>(loadAs<double>(in));
  }
};

struct F32Format {
  static constexpr int64_t kElements = 1, kBytes = 4;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    *out = loadAs<float>(in);
  }
};

struct F16Format {
  static constexpr int64_t kElements = 1, kBytes = 2;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    *out = loadF16(in);
  }
};

struct Bf16Format {
  static constexpr int64_t kElements = 1, kBytes = 2;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    *out = floatFromBf16(loadAs<uint16_t>(in));
  }
};

// Scale d; 32 signed bytes.
struct Q8_0Format {
  static constexpr int64_t kElements = 32, kBytes = 34;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in);
    for (int i = 0; i < 32; ++i)
      out[i] = static_cast<float>(static_cast<int8_t>(in[2 + i])) * scale;
  }
};

// Calls emit(i, value) for the 32 numbers of 16 bytes: first the low nibbles,
// then the high ones. Not unrolled, because gcc 12 vectorises a loop of 16 only
// as a loop.
template <class Emit>
LLMRT_INLINE void forEachNibble(const uint8_t* in, Emit emit) {
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i)
    emit(i, in[i] & 15);
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i)
    emit(16 + i, in[i] >> 4);
}

// The same, with a fifth bit for number i in bit i of the 32-bit field at
// `high`.
template <class Emit>
LLMRT_INLINE void forEachFiveBits(const uint8_t* in, const uint8_t* high,
                                  Emit emit) {
  const uint32_t bits = loadAs<uint32_t>(high);
  forEachNibble(in, [&](int i, int value) {
    emit(i, value | static_cast<int>((bits >> i & 1) << 4));
  });
}

// Scale d; byte i holds element i in its low and element i + 16 in its high
// nibble.
struct Q4_0Format {
  static constexpr int64_t kElements = 32, kBytes = 18;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in);
    forEachNibble(in + 2, [=](int i, int value) {
      out[i] = static_cast<float>(value - 8) * scale;
    });
  }
};

// As Q4_0, unsigned, with a minimum m after d.
struct Q4_1Format {
  static constexpr int64_t kElements = 32, kBytes = 20;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in);
    const float minimum = loadF16(in + 2);
    forEachNibble(in + 4, [=](int i, int value) {
      out[i] = static_cast<float>(value) * scale + minimum;
    });
  }
};

// As Q4_0, with the fifth bits of the elements in 4 bytes after d.
struct Q5_0Format {
  static constexpr int64_t kElements = 32, kBytes = 22;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in);
    forEachFiveBits(in + 6, in + 2, [=](int i, int value) {
      out[i] = static_cast<float>(value - 16) * scale;
    });
  }
};

struct Q5_1Format {
  static constexpr int64_t kElements = 32, kBytes = 24;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in);
    const float minimum = loadF16(in + 2);
    forEachFiveBits(in + 8, in + 4, [=](int i, int value) {
      out[i] = static_cast<float>(value) * scale + minimum;
    });
  }
};

// The eight 6-bit scales and minima of Q4_K and Q5_K, packed in 12 bytes.
struct PackedScales {
  int scale;
  int minimum;
};

LLMRT_INLINE PackedScales unpackScales(const uint8_t* packed, int group) {
  if (group < 4)
    return {packed[group] & 63, packed[group + 4] & 63};
  return {(packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4),
          (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4)};
}

// Eight groups of 32 with scale d * s and minimum dmin * m; groups 2j and 2j +
// 1 are the low and high nibbles of the same 32 bytes.
struct Q4_KFormat {
  static constexpr int64_t kElements = 256, kBytes = 144;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in);
    const float minimum = loadF16(in + 2);
    for (int group = 0; group < 8; ++group) {
      const PackedScales packed = unpackScales(in + 4, group);
      const float groupScale = scale * static_cast<float>(packed.scale);
      const float groupMinimum = minimum * static_cast<float>(packed.minimum);
      const uint8_t* nibbles = in + 16 + group / 2 * 32;
      const int shift = group % 2 * 4;
      for (int i = 0; i < 32; ++i)
        out[group * 32 + i] =
            groupScale * static_cast<float>((nibbles[i] >> shift) & 15) -
            groupMinimum;
    }
  }
};

// As Q4_K, with the fifth bit of element i of group j in bit j of high[i].
struct Q5_KFormat {
  static constexpr int64_t kElements = 256, kBytes = 176;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in);
    const float minimum = loadF16(in + 2);
    const uint8_t* high = in + 16;
    for (int group = 0; group < 8; ++group) {
      const PackedScales packed = unpackScales(in + 4, group);
      const float groupScale = scale * static_cast<float>(packed.scale);
      const float groupMinimum = minimum * static_cast<float>(packed.minimum);
      const uint8_t* nibbles = in + 48 + group / 2 * 32;
      const int shift = group % 2 * 4;
      for (int i = 0; i < 32; ++i) {
        const int value =
            ((nibbles[i] >> shift) & 15) | (((high[i] >> group) & 1) << 4);
        out[group * 32 + i] =
            groupScale * static_cast<float>(value) - groupMinimum;
      }
    }
  }
};

// 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales of 16
// elements, d. Each half of 128 elements has four runs of 32: low nibbles of
// its first and second 32 bytes, then the high nibbles; run r takes bits 2r, 2r
// + 1 of the pairs.
struct Q6_KFormat {
  static constexpr int64_t kElements = 256, kBytes = 210;

  LLMRT_INLINE void decode(const uint8_t* in, float* out) {
    const float scale = loadF16(in + 208);
    for (int run = 0; run < 8; ++run) {
      const int half = run / 4;
      const uint8_t* low = in + half * 64 + run % 2 * 32;
      const uint8_t* high = in + 128 + half * 32;
      const int lowShift = run % 4 / 2 * 4;
      const int highShift = run % 4 * 2;
      for (int part = 0; part < 2; ++part) {
        const float runScale =
            scale *
            static_cast<float>(static_cast<int8_t>(in[192 + run * 2 + part]));
#pragma GCC unroll 1
        for (int i = part * 16; i < part * 16 + 16; ++i) {
          const int value = (((low[i] >> lowShift) & 15) |
                             (((high[i] >> highShift) & 3) << 4)) -
                            32;
          out[run * 32 + i] = runScale * static_cast<float>(value);
        }
      }
    }
  }
};

template <class Format>
LLMRT_INLINE void decodePart(const uint8_t* block, int64_t begin, int64_t count,
                             float* out) {
  float values[Format::kElements];
  Format::decode(block, values);
  std::copy_n(values + begin, count, out);
}

template <class Format>
LLMRT_INLINE void decodeRun(const uint8_t* in, int64_t begin,
                            int64_t numElements, float* out) {
  in += begin / Format::kElements * Format::kBytes;
  if (int64_t skip = begin % Format::kElements; skip > 0) {
    int64_t count = std::min(Format::kElements - skip, numElements);
    decodePart<Format>(in, skip, count, out);
    in += Format::kBytes;
    out += count;
    numElements -= count;
  }
  const int64_t numBlocks = numElements / Format::kElements;
  for (int64_t i = 0; i < numBlocks; ++i)
    Format::decode(in + i * Format::kBytes, out + i * Format::kElements);
  if (int64_t rest = numElements % Format::kElements; rest > 0)
    decodePart<Format>(in + numBlocks * Format::kBytes, 0, rest,
                       out + numBlocks * Format::kElements);
}

using RunFn = void (*)(const uint8_t* in, int64_t begin, int64_t numElements,
                       float* out);

template <class Format>
void decodeRunBaseline(const uint8_t* in, int64_t begin, int64_t numElements,
                       float* out) {
  decodeRun<Format>(in, begin, numElements, out);
}

#if defined(__x86_64__)
template <class Format>
[[gnu::target("avx2")]] void decodeRunAvx2(const uint8_t* in, int64_t begin,
                                           int64_t numElements, float* out) {
  decodeRun<Format>(in, begin, numElements, out);
}

bool hasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}

template <class Format>
RunFn chooseRun() {
  return hasAvx2() ? decodeRunAvx2<Format> : decodeRunBaseline<Format>;
}
#else
template <class Format>
RunFn chooseRun() {
  return decodeRunBaseline<Format>;
}
#endif

RunFn findRun(SourceType type) {
  switch (type) {
  case SourceType::F64:
    return chooseRun<F64Format>();
  case SourceType::F32:
    return chooseRun<F32Format>();
  case SourceType::F16:
    return chooseRun<F16Format>();
  case SourceType::BF16:
    return chooseRun<Bf16Format>();
  case SourceType::Q8_0:
    return chooseRun<Q8_0Format>();
  case SourceType::Q4_0:
    return chooseRun<Q4_0Format>();
  case SourceType::Q4_1:
    return chooseRun<Q4_1Format>();
  case SourceType::Q5_0:
    return chooseRun<Q5_0Format>();
  case SourceType::Q5_1:
    return chooseRun<Q5_1Format>();
  case SourceType::Q4_K:
    return chooseRun<Q4_KFormat>();
  case SourceType::Q5_K:
    return chooseRun<Q5_KFormat>();
  case SourceType::Q6_K:
    return chooseRun<Q6_KFormat>();
  default:
    return nullptr;
  }
}

LLMRT_INLINE void convertRun(const float* in, int64_t numElements,
                             uint16_t* out) {
  for (int64_t i = 0; i < numElements; ++i)
    out[i] = bf16FromFloat(in[i]);
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] void
convertRunAvx2(const float* in, int64_t numElements, uint16_t* out) {
  convertRun(in, numElements, out);
}
#endif

} // namespace

bool canReadElements(SourceType type) { return findRun(type) != nullptr; }

absl::Status readElements(const SourceTensor& tensor, int64_t begin,
                          int64_t numElements, float* out) {
  RunFn run = findRun(tensor.type);
  if (!run)
    return makeError(ErrorCode::TensorTypeUnsupported,
                     absl::StrCat("tensor ", tensor.name, " is stored as ",
                                  sourceTypeInfo(tensor.type).name,
                                  ", which cannot be read as numbers here"),
                     "convert the model to F32, F16, BF16, Q8_0 or Q4_1");
  if (begin < 0 || numElements < 0 ||
      numElements > tensor.numElements() - begin)
    return absl::OutOfRangeError(absl::StrCat(
        "elements [", begin, ", ", begin, " + ", numElements, ") of tensor ",
        tensor.name, " ", shapeText(tensor.shape)));
  if (numElements > 0)
    run(tensor.bytes.data(), begin, numElements, out);
  return absl::OkStatus();
}

void convertToBf16(const float* in, int64_t numElements, uint16_t* out) {
#if defined(__x86_64__)
  if (hasAvx2())
    return convertRunAvx2(in, numElements, out);
#endif
  convertRun(in, numElements, out);
}

} // namespace llmrt
