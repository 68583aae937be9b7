// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cublaslt/LinearProducts.h"

#include "runtime/base/Error.h"

namespace llmrt {

LinearProducts productsOfLinear(const LinearArgs& a, int64_t rows,
                                const void* rounded) {
  LinearProducts products;
  for (int64_t j = 0; j < a.count; ++j) {
    MatrixProduct product;
    product.m = rows;
    product.n = a.weights[j].N;
    product.k = a.K;
    product.a = rounded;
    product.lda = a.K;
    product.b = a.weights[j].w;
    product.ldb = a.K;
    product.transposeB = true;
    product.c = a.weights[j].y;
    product.ldc = a.weights[j].ldy;
    products.push_back(product);
  }
  return products;
}

absl::StatusOr<bool> prepareAll(MatrixProducts& library,
                                const LinearProducts& products,
                                const MatrixProducts::Place& place) {
  for (const MatrixProduct& product : products) {
    LLMRT_ASSIGN_OR_RETURN(bool isThere, library.prepare(product, place));
    if (!isThere)
      return false;
  }
  return true;
}

absl::Status multiplyAll(MatrixProducts& library,
                         const LinearProducts& products,
                         const MatrixProducts::Place& place) {
  for (const MatrixProduct& product : products)
    LLMRT_RETURN_IF_ERROR(library.multiply(product, place));
  return absl::OkStatus();
}

} // namespace llmrt
