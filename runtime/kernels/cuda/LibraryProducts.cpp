// SPDX-License-Identifier: Apache-2.0
#include "runtime/kernels/cuda/LibraryProducts.h"

#include "runtime/kernels/cuda/FusedProductArgs.h"
#include "runtime/kernels/cuda/RoundedFactors.h"

#include "absl/strings/str_cat.h"

namespace llmrt {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kColTile = kThreads * 8; // 16 bytes of bf16 for a thread

bool isOfBf16(int64_t factorDtype) {
  return factorDtype == static_cast<int64_t>(DType::BF16);
}

/// `rows`: those that make a product worth a library, any where other forms of
/// few rows do not take its factors. `weightCols`: distance of the rows of a
/// bf16 weight, which is multiplied where it lies; else 0.
bool isOfLibrary(int64_t dtype, int64_t layout, int64_t rows,
                 int64_t weightCols, int64_t factorDtype) {
  return rows > (isOfBf16(factorDtype) ? 0 : kCudaLinearFewRows) &&
         dtype == static_cast<int64_t>(DType::BF16) &&
         layout == static_cast<int64_t>(WeightLayout::RowMajor) &&
         weightCols % 8 == 0;
}

// What no address can change is known when the plan is made: isPlanned().

bool isPlanned(const LinearArgs& a, int64_t rows) {
  return isOfLibrary(a.dtype, a.layout, rows, a.K, a.factorDtype);
}

bool isPlanned(const LinearInputGradientArgs& a, int64_t rows) {
  return isOfLibrary(a.dtype, a.layout, rows, a.K, a.factorDtype);
}

// Padding becomes sums of zeros. What they are added to is 0 there, too: the
// kernel wrote it before. Factors that were rounded before hold it as it is.
bool isPlanned(const LinearWeightGradientArgs& a, int64_t) {
  return isOfLibrary(a.dtype, a.layout, a.rows, 0, a.factorDtype) &&
         a.outputs >= a.N && a.K % 4 == 0 &&
         (!isOfBf16(a.factorDtype) || (a.validN >= a.N && a.validK >= a.K));
}

bool isPlanned(const FusedLinearArgs& a, int64_t rows) {
  return isOfLibrary(a.in.dtype, static_cast<int64_t>(WeightLayout::RowMajor),
                     rows, a.in.K, a.factorDtype) &&
         a.in.norm == 0 && a.count == 1 && a.softcap == 0 &&
         (a.activation == 0 || a.activation == kGeluByTanh);
}

bool isAligned16(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

/// True for a factor that the library reads where it lies, or that is rounded.
bool suitsFactor(int64_t factorDtype, const void* factor, int64_t ld) {
  return !isOfBf16(factorDtype) || (isAligned16(factor) && ld % 8 == 0);
}

bool suits(const LinearArgs& a) {
  bool is = !a.prologue && suitsFactor(a.factorDtype, a.x, a.ldx);
  for (int64_t j = 0; j < a.count; ++j) {
    const LinearWeight& weight = a.weights[j];
    is = is && !weight.epilogue && isAligned16(weight.w) &&
         isAligned16(weight.y) && weight.ldy % 4 == 0;
  }
  return is;
}

bool suits(const LinearInputGradientArgs& a) {
  return isAligned16(a.w) && isAligned16(a.dx) && a.lddx % 4 == 0 &&
         suitsFactor(a.factorDtype, a.dy, a.lddy);
}

bool suits(const LinearWeightGradientArgs& a) {
  return isAligned16(a.out) && suitsFactor(a.factorDtype, a.dy, a.lddy) &&
         suitsFactor(a.factorDtype, a.x, a.ldx);
}

// The library adds before it activates.
bool suits(const FusedLinearArgs& a) {
  return isAligned16(a.w0) && isAligned16(a.y) && a.ldy % 4 == 0 &&
         isAligned16(a.bias0) && isAligned16(a.residual) &&
         suitsFactor(a.factorDtype, a.in.x, a.in.ldx) &&
         (!a.residual || (a.ldr % 4 == 0 && a.activation == 0)) &&
         !a.postWeight;
}

/// What a rounding kernel makes: one or two factors of `rows` rows. Their
/// columns are those of the grid, each factor's from a tile's begin.
struct Rounding {
  int64_t rows;
  int64_t cols[2]; // 0: no second one
};

Rounding roundingOf(const LinearArgs& a, int64_t rows) {
  return {rows, {a.K, 0}};
}

Rounding roundingOf(const LinearInputGradientArgs& a, int64_t rows) {
  return {rows, {a.N, 0}};
}

Rounding roundingOf(const LinearWeightGradientArgs& a, int64_t) {
  return {a.rows, {a.N, a.K}};
}

Rounding roundingOf(const FusedLinearArgs& a, int64_t rows) {
  return {rows, {a.in.K, 0}};
}

int64_t bytesOf(const Rounding& r) {
  return factorBytes(r.rows, r.cols[0]) + factorBytes(r.rows, r.cols[1]);
}

/// Bytes of scratch before the library's workspace: rounded factors, or the
/// factor of zeros with which a product is measured that adds to its result.
template <typename Args>
int64_t factorScratch(const Args& a, int64_t rows) {
  return isOfBf16(a.factorDtype) ? 0 : bytesOf(roundingOf(a, rows));
}

int64_t factorScratch(const LinearWeightGradientArgs& a, int64_t rows) {
  if (!isOfBf16(a.factorDtype))
    return bytesOf(roundingOf(a, rows));
  return a.accumulate ? factorBytes(a.rows, a.ldx) : 0;
}

int64_t factorScratch(const FusedLinearArgs& a, int64_t rows) {
  if (!isOfBf16(a.factorDtype))
    return bytesOf(roundingOf(a, rows));
  return a.residual ? factorBytes(rows, a.in.ldx) : 0; // which may be y
}

/// Calls visit(args) with the words of a kernel that a library may take;
/// returns `other` for every other kernel.
template <typename Result, typename Visit>
Result visitArgs(std::string_view kernel, const uint64_t* words, Result other,
                 const Visit& visit) {
  if (kernel == "linear")
    return visit(readArgs<LinearArgs>(words));
  if (kernel == "linear_input_gradient")
    return visit(readArgs<LinearInputGradientArgs>(words));
  if (kernel == "linear_weight_gradient")
    return visit(readArgs<LinearWeightGradientArgs>(words));
  if (kernel == "fused_linear")
    return visit(readArgs<FusedLinearArgs>(words));
  return other;
}

} // namespace

int64_t libraryScratchBytes(std::string_view kernel, const uint64_t* words) {
  const auto rows = static_cast<int64_t>(words[0]);
  return visitArgs(kernel, words, int64_t{0}, [&](const auto& a) -> int64_t {
    return isPlanned(a, rows)
               ? factorScratch(a, rows) + kCudaProductWorkspaceBytes
               : 0;
  });
}

std::optional<LibraryFactors>
libraryFactors(std::string_view kernel, const uint64_t* words, int64_t rows) {
  std::optional<LibraryFactors> none;
  return visitArgs(kernel, words, none, [&](const auto& a) {
    if (!isPlanned(a, rows) || !suits(a))
      return none;
    LibraryFactors factors = {std::nullopt, factorScratch(a, rows)};
    if (isOfBf16(a.factorDtype))
      return std::optional<LibraryFactors>(factors);
    const Rounding r = roundingOf(a, rows);
    int64_t cols = 0;
    for (int64_t each : r.cols)
      cols += (each + kColTile - 1) / kColTile * kColTile;
    factors.rounding = CudaLaunchShape{
        "LinearRound",
        absl::StrCat(absl::string_view(kernel.data(), kernel.size()), "_round"),
        r.rows,
        cols,
        1,
        kColTile,
        1,
        kThreads,
        0,
        factors.scratchBytes};
    return std::optional<LibraryFactors>(factors);
  });
}

} // namespace llmrt
