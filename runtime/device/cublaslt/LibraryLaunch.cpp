// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cublaslt/LibraryLaunch.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/cuda/FusedProductArgs.h"
#include "runtime/kernels/cuda/RoundedFactors.h"

#include <algorithm>

namespace llmrt {
namespace {

using Products = absl::InlinedVector<MatrixProduct, 3>;

/// Where a factor lies that may have been rounded to the scratch.
struct PlacedFactor {
  const void* data;
  int64_t ld;
};

PlacedFactor placeOf(int64_t factorDtype, const float* factor, int64_t ld,
                     int64_t cols, const uint8_t* rounded) {
  if (factorDtype == static_cast<int64_t>(DType::BF16))
    return {factor, ld};
  return {rounded, factorStride(cols)};
}

/// y_j = x W_j^T.
Products productsOf(const LinearArgs& a, int64_t rows, const uint8_t* rounded) {
  const PlacedFactor x = placeOf(a.factorDtype, a.x, a.ldx, a.K, rounded);
  Products products;
  for (int64_t j = 0; j < a.count; ++j) {
    MatrixProduct product;
    product.m = rows;
    product.n = a.weights[j].N;
    product.k = a.K;
    product.a = x.data;
    product.lda = x.ld;
    product.b = a.weights[j].w;
    product.ldb = a.K;
    product.transposeB = true;
    product.c = a.weights[j].y;
    product.ldc = a.weights[j].ldy;
    products.push_back(product);
  }
  return products;
}

/// dx = dy W.
Products productsOf(const LinearInputGradientArgs& a, int64_t rows,
                    const uint8_t* rounded) {
  const PlacedFactor dy = placeOf(a.factorDtype, a.dy, a.lddy, a.N, rounded);
  MatrixProduct product;
  product.m = rows;
  product.n = a.K;
  product.k = a.N;
  product.a = dy.data;
  product.lda = dy.ld;
  product.b = a.w;
  product.ldb = a.K;
  product.c = a.dx;
  product.ldc = a.lddx;
  return {product};
}

/// out (+)= dy^T x.
Products productsOf(const LinearWeightGradientArgs& a, int64_t,
                    const uint8_t* rounded) {
  const PlacedFactor dy = placeOf(a.factorDtype, a.dy, a.lddy, a.N, rounded);
  const PlacedFactor x = placeOf(a.factorDtype, a.x, a.ldx, a.K,
                                 rounded + factorBytes(a.rows, a.N));
  MatrixProduct product;
  product.m = a.N;
  product.n = a.K;
  product.k = a.rows;
  product.a = dy.data;
  product.lda = dy.ld;
  product.transposeA = true;
  product.b = x.data;
  product.ldb = x.ld;
  product.c = a.out;
  product.ldc = a.K;
  if (a.accumulate) {
    product.addend = product.c;
    product.ldAddend = product.ldc;
  }
  return {product};
}

/// y = gelu(x W^T + bias), or x W^T + bias + residual.
Products productsOf(const FusedLinearArgs& a, int64_t rows,
                    const uint8_t* rounded) {
  const PlacedFactor x =
      placeOf(a.factorDtype, a.in.x, a.in.ldx, a.in.K, rounded);
  MatrixProduct product;
  product.m = rows;
  product.n = a.N;
  product.k = a.in.K;
  product.a = x.data;
  product.lda = x.ld;
  product.b = a.w0;
  product.ldb = a.in.K;
  product.transposeB = true;
  product.c = a.y;
  product.ldc = a.ldy;
  product.addend = a.residual;
  product.ldAddend = a.residual ? a.ldr : 0;
  product.bias = a.bias0;
  product.hasGelu = a.activation != 0;
  return {product};
}

} // namespace

std::optional<LibraryLaunch> libraryLaunch(std::string_view kernel,
                                           const uint64_t* words, int64_t rows,
                                           const uint8_t* scratch) {
  std::optional<LibraryFactors> factors = libraryFactors(kernel, words, rows);
  if (!factors)
    return std::nullopt;
  LibraryLaunch launch = {*std::move(factors), {}};
  if (kernel == "linear_input_gradient")
    launch.products =
        productsOf(readArgs<LinearInputGradientArgs>(words), rows, scratch);
  else if (kernel == "linear_weight_gradient")
    launch.products =
        productsOf(readArgs<LinearWeightGradientArgs>(words), rows, scratch);
  else if (kernel == "fused_linear")
    launch.products =
        productsOf(readArgs<FusedLinearArgs>(words), rows, scratch);
  else
    launch.products = productsOf(readArgs<LinearArgs>(words), rows, scratch);
  return launch;
}

absl::StatusOr<bool> prepareAll(MatrixProducts& library,
                                const LibraryLaunch& launch,
                                const uint8_t* scratch,
                                const MatrixProducts::Place& place) {
  for (MatrixProduct product : launch.products) {
    // Zeros instead of the factor that is no weight and has fewer columns than
    // gradients of logits have.
    if (product.accumulates() && !launch.factors.rounding)
      (product.transposeA ? product.b : product.a) = scratch;
    LLMRT_ASSIGN_OR_RETURN(bool isThere, library.prepare(product, place));
    if (!isThere)
      return false;
  }
  return true;
}

bool knowsAll(const MatrixProducts& library, const LibraryLaunch& launch) {
  return std::all_of(
      launch.products.begin(), launch.products.end(),
      [&](const MatrixProduct& product) { return library.knows(product); });
}

absl::Status multiplyAll(MatrixProducts& library, const LibraryLaunch& launch,
                         const MatrixProducts::Place& place) {
  for (const MatrixProduct& product : launch.products)
    LLMRT_RETURN_IF_ERROR(library.multiply(product, place));
  return absl::OkStatus();
}

} // namespace llmrt
