// SPDX-License-Identifier: Apache-2.0
// A launch of `linear` as products of matrices (LibraryLinear.h says which).
#pragma once

#include "runtime/device/cublaslt/MatrixProducts.h"
#include "runtime/kernels/KernelArgs.h"

#include "absl/container/inlined_vector.h"

namespace llmrt {

using LinearProducts = absl::InlinedVector<MatrixProduct, 3>;

/// Returns y_j = x W_j^T for each weight. `rounded`: x as bf16 [rows, K].
LinearProducts productsOfLinear(const LinearArgs& a, int64_t rows,
                                const void* rounded);

/// Chooses algorithms for all of them. Returns false if the library lacks one.
absl::StatusOr<bool> prepareAll(MatrixProducts& library,
                                const LinearProducts& products,
                                const MatrixProducts::Place& place);
/// Enqueues all of them.
absl::Status multiplyAll(MatrixProducts& library,
                         const LinearProducts& products,
                         const MatrixProducts::Place& place);

} // namespace llmrt
