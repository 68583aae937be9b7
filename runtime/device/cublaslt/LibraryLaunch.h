// SPDX-License-Identifier: Apache-2.0
// A launch of a kernel as products of matrices by the library.
#pragma once

#include "runtime/device/cublaslt/MatrixProducts.h"
#include "runtime/kernels/cuda/LibraryProducts.h"

#include "absl/container/inlined_vector.h"

#include <optional>

namespace llmrt {

/// First factors are rounded, unless they are bf16 already, then the products
/// run.
struct LibraryLaunch {
  LibraryFactors factors;
  absl::InlinedVector<MatrixProduct, 3> products;

  /// True if products add to their result: the scratch of the factors must be
  /// zero while they are prepared for the first time.
  bool accumulates() const { return products[0].accumulates(); }
};

/// Returns what a launch of `kernel` with these words is by the library, or
/// nothing if it does not suit that. `scratch`: of the launch; a multiple of
/// 256 bytes.
std::optional<LibraryLaunch> libraryLaunch(std::string_view kernel,
                                           const uint64_t* words, int64_t rows,
                                           const uint8_t* scratch);

/// Chooses algorithms for all of them. Returns false if the library lacks one.
/// `scratch`: of the launch.
absl::StatusOr<bool> prepareAll(MatrixProducts& library,
                                const LibraryLaunch& launch,
                                const uint8_t* scratch,
                                const MatrixProducts::Place& place);
/// True if prepareAll() was called for these shapes before.
bool knowsAll(const MatrixProducts& library, const LibraryLaunch& launch);

/// Enqueues the products.
absl::Status multiplyAll(MatrixProducts& library, const LibraryLaunch& launch,
                         const MatrixProducts::Place& place);

} // namespace llmrt
