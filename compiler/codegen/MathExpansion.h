// SPDX-License-Identifier: Apache-2.0
// exp, tanh, erf and bf16 rounding as sequences of IEEE operations on f32
// vectors (or f32), because generated code has no undefined symbols.
// Multiplications and additions are never contracted: every CPU level, and
// every lane, gives the same bits.
//
// Largest errors over every float against a double result, measured with
// LLMC_EXHAUSTIVE=1 by tests/codegen/MathExpansionTest.cpp: exp 0.990,
// tanh 1.330, erf 1.476 ulp. Exact at zeros, infinities and beyond; NaN gives
// NaN; exp goes on into the subnormal numbers.
#pragma once

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace llmc {

/// Returns e^x.
mlir::Value expandExp(mlir::ImplicitLocOpBuilder& b, mlir::Value x);

/// Returns tanh x.
mlir::Value expandTanh(mlir::ImplicitLocOpBuilder& b, mlir::Value x);

/// Returns the error function of x.
mlir::Value expandErf(mlir::ImplicitLocOpBuilder& b, mlir::Value x);

/// Rounds to the nearest bf16, ties to even, and returns it as f32. A NaN stays
/// a NaN.
mlir::Value expandRoundToBf16(mlir::ImplicitLocOpBuilder& b, mlir::Value x);

/// Returns the upper 16 bits of f32 values, as integers.
mlir::Value upperHalf(mlir::ImplicitLocOpBuilder& b, mlir::Value x);

/// Returns f32 values whose upper halves are the given 16-bit integers.
mlir::Value fromUpperHalf(mlir::ImplicitLocOpBuilder& b, mlir::Value halves);

} // namespace llmc
