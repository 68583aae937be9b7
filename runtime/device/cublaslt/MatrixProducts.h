// SPDX-License-Identifier: Apache-2.0
// Large products of matrices by cuBLASLt. An algorithm is chosen once for a
// kind of product: by the tuning cache, else by timing what the library
// proposes. Only algorithms whose sums have one order are taken, so that
// results are the same from run to run.
#pragma once

#include "runtime/device/cublaslt/LtTable.h"
#include "runtime/device/cublaslt/TuningCache.h"

#include "absl/functional/function_ref.h"

#include <map>
#include <memory>
#include <string>
#include <tuple>

namespace llmrt {

/// C [m, n] = gelu(A B + addend + bias), each part if it is there. Matrices are
/// row-major: A [m, k] (transposeA: stored as [k, m]), B [k, n] (transposeB:
/// stored as [n, k]). A and B are bf16, all else f32. ld*: elements between
/// stored rows. Pointers and stored rows begin at multiples of 16 bytes.
struct MatrixProduct {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  const void* a = nullptr;
  int64_t lda = 0;
  bool transposeA = false;
  const void* b = nullptr;
  int64_t ldb = 0;
  bool transposeB = false;
  float* c = nullptr;
  int64_t ldc = 0;
  const float* addend = nullptr; // [m, n]; may be c
  int64_t ldAddend = 0;
  const float* bias = nullptr; // [n]
  bool hasGelu = false;        // by tanh

  /// True if the product is added to what C holds.
  bool accumulates() const { return addend && addend == c; }
};

/// Measures work on a stream.
class StreamTimer {
public:
  virtual ~StreamTimer() = default;
  /// False while commands are captured.
  virtual bool canMeasure() const = 0;
  /// Runs `work`, which enqueues, and returns how long the stream took for it.
  virtual absl::StatusOr<double>
  secondsOf(absl::FunctionRef<absl::Status()> work) = 0;
};

class MatrixProducts {
public:
  /// Algorithms that are timed for a product.
  static constexpr int kMostCandidates = 8;

  /// `gpu` is its name; the timer outlives this.
  /// Errors  those of LtTable::toStatus().
  static absl::StatusOr<std::unique_ptr<MatrixProducts>>
  create(const LtTable& table, TuningCache cache, std::string gpu,
         StreamTimer& timer);
  ~MatrixProducts();

  /// Workspace of every call: `sizeBytes` of device memory, and the stream.
  struct Place {
    void* workspace;
    int64_t workspaceBytes;
    void* stream;
  };

  /// Chooses the algorithm of a product, unless that was done before. Trying
  /// one overwrites C, or adds A B to it as often as it is tried: if the
  /// product accumulates, A or B must be zero meanwhile (one that accumulates
  /// with a bias or gelu is not tried). Returns false if the library has none.
  absl::StatusOr<bool> prepare(const MatrixProduct& product,
                               const Place& place);
  /// Enqueues a product. Errors  DeviceUnsupported if prepare() says false.
  absl::Status multiply(const MatrixProduct& product, const Place& place);

  /// True if the algorithm of such a product is chosen, or known to be missing.
  bool knows(const MatrixProduct& product) const;

  const LtTable& table() const { return table_; }

private:
  struct Prepared;
  struct Trial;
  using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, bool, int64_t,
                           bool, int64_t, int64_t, bool, bool, bool>;

  MatrixProducts(const LtTable& table, TuningCache cache, std::string gpu,
                 StreamTimer& timer);

  static Shape shapeOf(const MatrixProduct& product);
  TuningKey keyOf(const MatrixProduct& product) const;
  absl::StatusOr<std::unique_ptr<Prepared>>
  describe(const MatrixProduct& product) const;
  absl::Status choose(Prepared& prepared, const MatrixProduct& product,
                      const Place& place);
  absl::StatusOr<int> propose(const Prepared& prepared, const Place& place,
                              lt::Heuristic (&found)[kMostCandidates]) const;
  /// Measures algorithms; those that the library refuses are taken out.
  absl::Status tryAlgorithms(const Prepared& prepared,
                             const MatrixProduct& product, const Place& place,
                             std::vector<Trial>& trials);
  lt::Result enqueue(const Prepared& prepared, const lt::Algorithm& algorithm,
                     const MatrixProduct& product, const Place& place) const;

  LtTable table_;
  TuningCache cache_;
  std::string gpu_;
  StreamTimer& timer_;
  lt::Handle handle_ = nullptr;
  std::map<Shape, std::unique_ptr<Prepared>> prepared_;
};

} // namespace llmrt
