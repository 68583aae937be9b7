// SPDX-License-Identifier: Apache-2.0
// A double as an attribute parameter: MLIR has no parser, hash or exact printer
// for one.
#pragma once

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/Hashing.h"

#include <bit>
#include <cstdint>

namespace llmc::llm {

struct Real {
  double value = 0;
  Real() = default;

  Real(double v) : value(v) {}

  operator double() const { return value; }

  bool operator==(const Real& other) const {
    return std::bit_cast<uint64_t>(value) ==
           std::bit_cast<uint64_t>(other.value);
  }

  bool operator==(double other) const { return *this == Real(other); }
};

inline llvm::hash_code hash_value(const Real& r) {
  return llvm::hash_value(std::bit_cast<uint64_t>(r.value));
}

/// Prints the shortest text that reads back as the same double.
inline mlir::AsmPrinter& operator<<(mlir::AsmPrinter& printer, const Real& r) {
  printer.printFloat(llvm::APFloat(r.value));
  return printer;
}

} // namespace llmc::llm

template <>
struct mlir::FieldParser<llmc::llm::Real> {
  static FailureOr<llmc::llm::Real> parse(AsmParser& parser) {
    double value = 0;
    if (parser.parseFloat(value))
      return failure();
    return llmc::llm::Real(value);
  }
};
