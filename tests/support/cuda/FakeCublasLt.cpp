// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cuda/FakeCublasLt.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace llmrt {
namespace lt {

struct Context {
  int unused;
};

struct MatmulDescOpaque {
  int32_t transposes[2] = {kNone, kNone};
  uint32_t epilogue = kEpilogueNone;
  const float* bias = nullptr;
};

struct MatrixLayoutOpaque {
  DataType type;
  uint64_t rows, cols;
  int64_t ld;
};

struct PreferenceOpaque {
  uint64_t workspaceBytes = 0;
  uint32_t reductionMask = 7;
  uint32_t alignments[4] = {256, 256, 256, 256};
};

} // namespace lt

namespace test {
namespace {

using namespace lt;

// Ranks are threads, each with a library of its own.
thread_local FakeLtCounts counts;
thread_local int failIn = -1;

/// How an algorithm looks in the library. Smaller numbers are proposed first.
struct FakeAlgorithm {
  uint32_t reduction; // ReductionScheme; 1, 4: not to be used
  uint64_t workspaceBytes;
  bool works;
  double seconds;
  bool isRefused = false; // only when it is to multiply
};

constexpr FakeAlgorithm kAlgorithms[] = {
    {0, 0, true, 5e-6},
    {1, 0, true, 1e-6},                 // adds in place: two roundings
    {0, 0, false, 1e-6},                // proposed, but not for this GPU
    {0, uint64_t{1} << 40, true, 1e-6}, // needs more than there is
    {2, 1024, true, 4e-6},
    {4, 0, true, 1e-6},                  // adds numbers of the output's type
    {2, uint64_t{32} << 20, true, 2e-6}, // kFakeBest
    {0, 0, true, 3e-6},
    {0, 0, true, 1e-6, true},
    {0, 0, true, 9e-6},
    {0, 0, true, 9e-6},
};
constexpr uint64_t kMagic = 0xA160A160;

Algorithm algorithmOf(int number) {
  return {{kMagic, static_cast<uint64_t>(number), ~uint64_t{0}}};
}

/// Number of an algorithm, or -1.
int numberOf(const Algorithm& algorithm) {
  const uint64_t number = algorithm.data[1];
  return algorithm.data[0] == kMagic && number < std::size(kAlgorithms)
             ? static_cast<int>(number)
             : -1;
}

template <typename Object>
Result make(Object** object) {
  *object = new Object();
  ++counts.objects;
  return kSuccess;
}

template <typename Object>
Result destroy(Object* object) {
  delete object;
  --counts.objects;
  return kSuccess;
}

struct Factor {
  uint64_t rows, cols; // of op(matrix)
};

Factor factorOf(MatrixLayout layout, int32_t transpose) {
  return transpose == kTranspose ? Factor{layout->cols, layout->rows}
                                 : Factor{layout->rows, layout->cols};
}

bool isWhole(MatrixLayout layout) {
  const size_t elementBytes = layout->type == kFloat32 ? 4 : 2;
  return layout->rows > 0 && layout->cols > 0 &&
         layout->ld >= static_cast<int64_t>(layout->rows) &&
         layout->ld * elementBytes % 16 == 0;
}

bool isAligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

Result checkShapes(MatmulDesc desc, MatrixLayout a, MatrixLayout b,
                   MatrixLayout c, MatrixLayout d) {
  const Factor left = factorOf(a, desc->transposes[0]);
  const Factor right = factorOf(b, desc->transposes[1]);
  const bool fits = left.cols == right.rows && left.rows == d->rows &&
                    right.cols == d->cols && c->rows == d->rows &&
                    c->cols == d->cols;
  const bool hasTypes = a->type == kBfloat16 && b->type == kBfloat16 &&
                        c->type == kFloat32 && d->type == kFloat32;
  if (!fits || !isWhole(a) || !isWhole(b) || !isWhole(c) || !isWhole(d))
    return kInvalidValue;
  if ((desc->epilogue & kEpilogueBias) &&
      (!desc->bias || !isAligned(desc->bias)))
    return kInvalidValue;
  return hasTypes ? kSuccess : kNotSupported;
}

/// Element (row, col) of op(matrix), stored in columns.
float elementOf(const void* matrix, MatrixLayoutOpaque layout,
                int32_t transpose, int64_t row, int64_t col) {
  if (transpose == kTranspose)
    std::swap(row, col);
  uint16_t bits;
  std::memcpy(&bits,
              static_cast<const uint16_t*>(matrix) + col * layout.ld + row,
              sizeof(bits));
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

float gelu(float x) {
  const double inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return static_cast<float>(0.5 * x * (1 + std::tanh(inner)));
}

Result getHeuristics(Handle, MatmulDesc desc, MatrixLayout a, MatrixLayout b,
                     MatrixLayout c, MatrixLayout d, Preference preference,
                     int wanted, Heuristic* results, int* found) {
  ++counts.heuristics;
  *found = 0;
  if (Result result = checkShapes(desc, a, b, c, d); result != kSuccess)
    return result;
  for (uint32_t alignment : preference->alignments)
    if (alignment != 16)
      return kInvalidValue; // it would assume more than there is
  // A shape that it has nothing for.
  if (d->rows == 13 * 8)
    return kNotSupported;
  for (int i = 0; i < static_cast<int>(std::size(kAlgorithms)); ++i) {
    const FakeAlgorithm& algorithm = kAlgorithms[i];
    const bool isAllowed = algorithm.reduction == 0 ||
                           (algorithm.reduction & preference->reductionMask);
    if (!isAllowed || *found == wanted)
      continue;
    results[(*found)++] = {algorithmOf(i),
                           algorithm.workspaceBytes,
                           algorithm.works ? kSuccess : kNotSupported,
                           1,
                           {}};
  }
  return *found > 0 ? kSuccess : kNotSupported;
}

Result check(Handle, MatmulDesc desc, MatrixLayout a, MatrixLayout b,
             MatrixLayout c, MatrixLayout d, const Algorithm* algorithm,
             Heuristic* result) {
  const int number = numberOf(*algorithm);
  if (number < 0)
    return kInvalidValue;
  result->workspaceBytes = kAlgorithms[number].workspaceBytes;
  result->state = checkShapes(desc, a, b, c, d);
  return result->state;
}

Result matmul(Handle, MatmulDesc desc, const void* alpha, const void* a,
              MatrixLayout aLayout, const void* b, MatrixLayout bLayout,
              const void* beta, const void* c, MatrixLayout cLayout, void* d,
              MatrixLayout dLayout, const Algorithm* algorithm, void* workspace,
              size_t workspaceBytes, void* stream) {
  ++counts.matmuls;
  if (failIn >= 0 && failIn-- == 0)
    return kExecutionFailed;
  const int number = algorithm ? numberOf(*algorithm) : -1;
  if (Result result = checkShapes(desc, aLayout, bLayout, cLayout, dLayout);
      result != kSuccess)
    return result;
  const float old = *static_cast<const float*>(beta);
  if (old == 0 && c != d)
    return kInvalidValue;
  if (number < 0 || !kAlgorithms[number].works || !isAligned(c) ||
      !isAligned(a) || !isAligned(b) || !isAligned(d) ||
      !isAligned(workspace) ||
      workspaceBytes < kAlgorithms[number].workspaceBytes)
    return kInvalidValue;
  if (kAlgorithms[number].isRefused)
    return kNotSupported;
  counts.lastChoice = number;
  const float scale = *static_cast<const float*>(alpha);
  auto work = [=, transposeA = desc->transposes[0],
               transposeB = desc->transposes[1], left = *aLayout,
               right = *bLayout, addend = *cLayout, result = *dLayout,
               epilogue = desc->epilogue, bias = desc->bias] {
    const auto k =
        static_cast<int64_t>(transposeA == kTranspose ? left.rows : left.cols);
    auto* out = static_cast<float*>(d);
    for (int64_t col = 0; col < static_cast<int64_t>(result.cols); ++col)
      for (int64_t row = 0; row < static_cast<int64_t>(result.rows); ++row) {
        float sum = 0;
        for (int64_t i = 0; i < k; ++i)
          sum += elementOf(a, left, transposeA, row, i) *
                 elementOf(b, right, transposeB, i, col);
        // As the library: without beta, C is not read.
        float value = scale * sum;
        if (old != 0)
          value += old * static_cast<const float*>(c)[col * addend.ld + row];
        if (epilogue & kEpilogueBias)
          value += bias[row];
        out[col * result.ld + row] =
            epilogue & kEpilogueGelu ? gelu(value) : value;
      }
  };
  static_cast<FakeLtStream*>(stream)->enqueue(work);
  return kSuccess;
}

} // namespace

FakeLtCounts& fakeLtCounts() { return counts; }

void failFakeMatmul(int inCalls) { failIn = inCalls; }

absl::StatusOr<double>
FakeLtTimer::secondsOf(absl::FunctionRef<absl::Status()> work) {
  ++numMeasured;
  const int before = counts.matmuls;
  if (absl::Status status = work(); !status.ok())
    return status;
  return kAlgorithms[counts.lastChoice].seconds * (counts.matmuls - before);
}

LtTable fakeLtTable() {
  LtTable table;
  table.path = "fake";
  table.getVersion = [] { return size_t{130102}; };
  table.getStatusString = [](Result) { return "fake text"; };
  table.create = [](Handle* handle) { return make(handle); };
  table.destroy = [](Handle handle) {
    return lt::Result(test::destroy(handle));
  };
  table.descCreate = [](MatmulDesc* desc, ComputeType compute, DataType scale) {
    return compute == kCompute32F && scale == kFloat32 ? make(desc)
                                                       : kNotSupported;
  };
  table.descDestroy = [](MatmulDesc desc) { return test::destroy(desc); };
  table.descSet = [](MatmulDesc desc, MatmulDescAttribute attribute,
                     const void* value, size_t sizeBytes) {
    void* to = nullptr;
    size_t wantedBytes = sizeof(int32_t);
    switch (attribute) {
    case kDescTransposeA:
    case kDescTransposeB:
      to = &desc->transposes[attribute - kDescTransposeA];
      break;
    case kDescEpilogue:
      to = &desc->epilogue;
      break;
    case kDescBiasPointer:
      to = &desc->bias;
      wantedBytes = sizeof(desc->bias);
      break;
    }
    if (!to || sizeBytes != wantedBytes)
      return kInvalidValue;
    std::memcpy(to, value, sizeBytes);
    switch (desc->epilogue) {
    case kEpilogueNone:
    case kEpilogueBias:
    case kEpilogueGelu:
    case kEpilogueGeluBias:
      return kSuccess;
    default:
      return kNotSupported;
    }
  };
  table.layoutCreate = [](MatrixLayout* layout, DataType type, uint64_t rows,
                          uint64_t cols, int64_t ld) {
    make(layout);
    **layout = {type, rows, cols, ld};
    return kSuccess;
  };
  table.layoutDestroy = [](MatrixLayout layout) {
    return test::destroy(layout);
  };
  table.preferenceCreate = [](Preference* preference) {
    return make(preference);
  };
  table.preferenceDestroy = [](Preference preference) {
    return test::destroy(preference);
  };
  table.preferenceSet = [](Preference preference, PreferenceAttribute attribute,
                           const void* value, size_t sizeBytes) {
    switch (attribute) {
    case kMaxWorkspaceBytes:
      if (sizeBytes != sizeof(uint64_t))
        return kInvalidValue;
      std::memcpy(&preference->workspaceBytes, value, sizeBytes);
      return kSuccess;
    case kReductionSchemeMask:
      if (sizeBytes != sizeof(uint32_t))
        return kInvalidValue;
      std::memcpy(&preference->reductionMask, value, sizeBytes);
      return kSuccess;
    default:
      if (sizeBytes != sizeof(uint32_t) || attribute < kMinAlignmentA ||
          attribute > kMinAlignmentD)
        return kInvalidValue;
      std::memcpy(&preference->alignments[attribute - kMinAlignmentA], value,
                  sizeBytes);
      return kSuccess;
    }
  };
  table.getHeuristics = getHeuristics;
  table.check = check;
  table.matmul = matmul;
  return table;
}

} // namespace test
} // namespace llmrt
