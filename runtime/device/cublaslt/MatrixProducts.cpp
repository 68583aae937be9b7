// SPDX-License-Identifier: Apache-2.0
// The library's matrices are column-major, so it is asked for C^T = B^T A^T: a
// row-major matrix is its transpose in columns, with the same distance.
#include "runtime/device/cublaslt/MatrixProducts.h"

#include "runtime/base/Error.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace llmrt {
namespace {

constexpr uint32_t kAlignBytes = 16;
constexpr int kMeasurements = 3;
/// A short product is launched so often for one measurement: the time of a
/// launch is then small beside it.
constexpr int kMostLaunches = 10;
/// Multiply-adds of a product that takes longer than a launch on any GPU.
constexpr double kLongProduct = 1e10;
/// Measured times that differ by less do not say which is shorter.
constexpr double kShorter = 0.98;
/// Shapes that stay prepared: one for each number of rows that prompts have.
constexpr size_t kMostShapes = 4096;

/// Products whose number of rows has the same upper power of two share a
/// choice: prompts have any number of rows, and the best tile hardly changes
/// within it.
int64_t rowsOfKind(int64_t m) {
  int64_t power = 16;
  while (power < m)
    power *= 2;
  return power;
}

int launchesOfMeasurement(const MatrixProduct& p) {
  const double work = static_cast<double>(p.m) * p.n * p.k;
  return static_cast<int>(
      std::clamp<double>(kLongProduct / work, 1, kMostLaunches));
}

bool isRefusal(lt::Result result) {
  return result == lt::kNotSupported || result == lt::kInvalidValue ||
         result == lt::kArchMismatch;
}

} // namespace

/// The library's description of a product.
struct MatrixProducts::Prepared {
  explicit Prepared(const LtTable& functions) : table(functions) {}

  ~Prepared() {
    for (lt::MatrixLayout layout : {first, second, result, addend})
      if (layout)
        (void)table.layoutDestroy(layout);
    if (desc)
      (void)table.descDestroy(desc);
  }

  const LtTable& table;
  lt::MatmulDesc desc = nullptr;
  lt::MatrixLayout first = nullptr;  // of B
  lt::MatrixLayout second = nullptr; // of A
  lt::MatrixLayout result = nullptr;
  lt::MatrixLayout addend = nullptr; // null: none

  /// The library's C, which it does not read if there is no addend.
  lt::MatrixLayout added() const { return addend ? addend : result; }

  std::optional<lt::Algorithm> algorithm = {}; // none: not by the library
};

/// A proposed algorithm and the shortest time that it took.
struct MatrixProducts::Trial {
  lt::Algorithm algorithm;
  double seconds = std::numeric_limits<double>::infinity();
};

MatrixProducts::MatrixProducts(const LtTable& table, TuningCache cache,
                               std::string gpu, StreamTimer& timer)
    : table_(table), cache_(std::move(cache)), gpu_(std::move(gpu)),
      timer_(timer) {}

absl::StatusOr<std::unique_ptr<MatrixProducts>>
MatrixProducts::create(const LtTable& table, TuningCache cache, std::string gpu,
                       StreamTimer& timer) {
  std::unique_ptr<MatrixProducts> products(
      new MatrixProducts(table, std::move(cache), std::move(gpu), timer));
  LLMRT_RETURN_IF_ERROR(
      table.toStatus(table.create(&products->handle_), "starting"));
  return products;
}

MatrixProducts::~MatrixProducts() {
  prepared_.clear();
  if (handle_)
    (void)table_.destroy(handle_);
}

MatrixProducts::Shape MatrixProducts::shapeOf(const MatrixProduct& p) {
  return {p.m,
          p.n,
          p.k,
          p.lda,
          p.transposeA,
          p.ldb,
          p.transposeB,
          p.ldc,
          p.addend ? p.ldAddend : 0,
          p.accumulates(),
          p.bias != nullptr,
          p.hasGelu};
}

TuningKey MatrixProducts::keyOf(const MatrixProduct& p) const {
  std::string addend;
  if (p.accumulates())
    addend = ", added";
  else if (p.addend)
    addend = absl::StrCat(", plus ", p.ldAddend);
  return {gpu_, ltVersionText(table_.getVersion()),
          absl::StrCat("bf16 x bf16 -> f32, m <= ", rowsOfKind(p.m), ", n ",
                       p.n, ", k ", p.k, ", a ", p.transposeA ? "T" : "N", " ",
                       p.lda, ", b ", p.transposeB ? "T" : "N", " ", p.ldb,
                       ", c ", p.ldc, addend, p.bias ? ", bias" : "",
                       p.hasGelu ? ", gelu" : "")};
}

absl::StatusOr<std::unique_ptr<MatrixProducts::Prepared>>
MatrixProducts::describe(const MatrixProduct& p) const {
  auto prepared = std::make_unique<Prepared>(table_);
  auto check = [&](lt::Result result) {
    return table_.toStatus(result, "describing a product");
  };
  LLMRT_RETURN_IF_ERROR(
      check(table_.descCreate(&prepared->desc, lt::kCompute32F, lt::kFloat32)));
  const int32_t transposes[] = {p.transposeB ? lt::kTranspose : lt::kNone,
                                p.transposeA ? lt::kTranspose : lt::kNone};
  LLMRT_RETURN_IF_ERROR(check(table_.descSet(
      prepared->desc, lt::kDescTransposeA, &transposes[0], sizeof(int32_t))));
  LLMRT_RETURN_IF_ERROR(check(table_.descSet(
      prepared->desc, lt::kDescTransposeB, &transposes[1], sizeof(int32_t))));
  const uint32_t epilogue =
      p.hasGelu ? (p.bias ? lt::kEpilogueGeluBias : lt::kEpilogueGelu)
                : (p.bias ? lt::kEpilogueBias : lt::kEpilogueNone);
  LLMRT_RETURN_IF_ERROR(check(table_.descSet(prepared->desc, lt::kDescEpilogue,
                                             &epilogue, sizeof(epilogue))));
  if (p.bias) // its alignment counts when algorithms are proposed
    LLMRT_RETURN_IF_ERROR(check(table_.descSet(
        prepared->desc, lt::kDescBiasPointer, &p.bias, sizeof(p.bias))));
  // In columns: what is stored as rows x cols has cols rows.
  LLMRT_RETURN_IF_ERROR(check(table_.layoutCreate(
      &prepared->first, lt::kBfloat16, p.transposeB ? p.k : p.n,
      p.transposeB ? p.n : p.k, p.ldb)));
  LLMRT_RETURN_IF_ERROR(check(table_.layoutCreate(
      &prepared->second, lt::kBfloat16, p.transposeA ? p.m : p.k,
      p.transposeA ? p.k : p.m, p.lda)));
  LLMRT_RETURN_IF_ERROR(check(
      table_.layoutCreate(&prepared->result, lt::kFloat32, p.n, p.m, p.ldc)));
  if (p.addend)
    LLMRT_RETURN_IF_ERROR(check(table_.layoutCreate(
        &prepared->addend, lt::kFloat32, p.n, p.m, p.ldAddend)));
  return prepared;
}

absl::StatusOr<int>
MatrixProducts::propose(const Prepared& prepared, const Place& place,
                        lt::Heuristic (&found)[kMostCandidates]) const {
  lt::Preference preference = nullptr;
  absl::Status status = table_.toStatus(table_.preferenceCreate(&preference),
                                        "stating preferences");
  auto set = [&](lt::PreferenceAttribute attribute, auto value) {
    if (status.ok())
      status = table_.toStatus(
          table_.preferenceSet(preference, attribute, &value, sizeof(value)),
          "stating preferences");
  };
  set(lt::kMaxWorkspaceBytes, static_cast<uint64_t>(place.workspaceBytes));
  // In order, or as numbers of f32 that a second step adds: no other scheme has
  // one order and one rounding.
  set(lt::kReductionSchemeMask, static_cast<uint32_t>(lt::kReduceComputeType));
  for (auto attribute : {lt::kMinAlignmentA, lt::kMinAlignmentB,
                         lt::kMinAlignmentC, lt::kMinAlignmentD})
    set(attribute, kAlignBytes);
  int count = 0;
  if (status.ok()) {
    const lt::Result result =
        table_.getHeuristics(handle_, prepared.desc, prepared.first,
                             prepared.second, prepared.added(), prepared.result,
                             preference, kMostCandidates, found, &count);
    if (result == lt::kNotSupported)
      count = 0;
    else
      status = table_.toStatus(result, "proposing algorithms");
  }
  if (preference)
    (void)table_.preferenceDestroy(preference);
  if (!status.ok())
    return status;
  int usable = 0;
  for (int i = 0; i < count; ++i)
    if (found[i].state == lt::kSuccess &&
        found[i].workspaceBytes <= static_cast<size_t>(place.workspaceBytes))
      found[usable++] = found[i];
  return usable;
}

absl::Status MatrixProducts::tryAlgorithms(const Prepared& prepared,
                                           const MatrixProduct& product,
                                           const Place& place,
                                           std::vector<Trial>& trials) {
  for (auto trial = trials.begin(); trial != trials.end();) {
    // Loads code, and shows what the library proposes and then does not do.
    const lt::Result result =
        enqueue(prepared, trial->algorithm, product, place);
    if (isRefusal(result)) {
      trial = trials.erase(trial);
      continue;
    }
    LLMRT_RETURN_IF_ERROR(table_.toStatus(result, "trying an algorithm"));
    ++trial;
  }
  const int launches = launchesOfMeasurement(product);
  // In turns, so that a clock that changes changes for all of them.
  for (int i = 0; i < kMeasurements; ++i)
    for (Trial& trial : trials) {
      auto work = [&] {
        lt::Result result = lt::kSuccess;
        for (int n = 0; n < launches && result == lt::kSuccess; ++n)
          result = enqueue(prepared, trial.algorithm, product, place);
        return table_.toStatus(result, "trying an algorithm");
      };
      LLMRT_ASSIGN_OR_RETURN(double seconds, timer_.secondsOf(work));
      trial.seconds = std::min(trial.seconds, seconds / launches);
    }
  return absl::OkStatus();
}

absl::Status MatrixProducts::choose(Prepared& prepared,
                                    const MatrixProduct& product,
                                    const Place& place) {
  const TuningKey key = keyOf(product);
  const std::optional<lt::Algorithm> known = cache_.find(key);
  if (known) {
    // It was chosen for another number of rows perhaps.
    lt::Heuristic checked = {};
    const lt::Result result =
        table_.check(handle_, prepared.desc, prepared.first, prepared.second,
                     prepared.added(), prepared.result, &*known, &checked);
    if (result == lt::kSuccess &&
        checked.workspaceBytes <= static_cast<size_t>(place.workspaceBytes)) {
      prepared.algorithm = known;
      return absl::OkStatus();
    }
  }
  lt::Heuristic found[kMostCandidates] = {};
  LLMRT_ASSIGN_OR_RETURN(int count, propose(prepared, place, found));
  if (count == 0)
    return absl::OkStatus();
  prepared.algorithm = found[0].algorithm;
  const bool canBeTried =
      !product.accumulates() || (!product.bias && !product.hasGelu);
  if (known || !canBeTried || !timer_.canMeasure())
    return absl::OkStatus();
  std::vector<Trial> trials;
  trials.reserve(count);
  for (int i = 0; i < count; ++i)
    trials.push_back({found[i].algorithm});
  LLMRT_RETURN_IF_ERROR(tryAlgorithms(prepared, product, place, trials));
  if (trials.empty()) {
    prepared.algorithm.reset();
    return absl::OkStatus();
  }
  // The library's order stands where times hardly differ.
  const Trial* best = trials.data();
  for (const Trial& trial : trials)
    if (trial.seconds < kShorter * best->seconds)
      best = &trial;
  prepared.algorithm = best->algorithm;
  // A folder that cannot be written costs time at the next start, no more.
  (void)cache_.add(key, best->algorithm, best->seconds);
  return absl::OkStatus();
}

bool MatrixProducts::knows(const MatrixProduct& product) const {
  return prepared_.count(shapeOf(product)) > 0;
}

absl::StatusOr<bool> MatrixProducts::prepare(const MatrixProduct& product,
                                             const Place& place) {
  const Shape shape = shapeOf(product);
  auto known = prepared_.find(shape);
  if (known == prepared_.end()) {
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Prepared> prepared,
                           describe(product));
    LLMRT_RETURN_IF_ERROR(choose(*prepared, product, place));
    if (prepared_.size() >= kMostShapes)
      prepared_.clear();
    known = prepared_.emplace(shape, std::move(prepared)).first;
  }
  return known->second->algorithm.has_value();
}

lt::Result MatrixProducts::enqueue(const Prepared& prepared,
                                   const lt::Algorithm& algorithm,
                                   const MatrixProduct& product,
                                   const Place& place) const {
  const float alpha = 1, beta = product.addend ? 1 : 0;
  if (product.bias)
    if (lt::Result result = table_.descSet(prepared.desc, lt::kDescBiasPointer,
                                           &product.bias, sizeof(product.bias));
        result != lt::kSuccess)
      return result;
  return table_.matmul(handle_, prepared.desc, &alpha, product.b,
                       prepared.first, product.a, prepared.second, &beta,
                       product.addend ? product.addend : product.c,
                       prepared.added(), product.c, prepared.result, &algorithm,
                       place.workspace, place.workspaceBytes, place.stream);
}

absl::Status MatrixProducts::multiply(const MatrixProduct& product,
                                      const Place& place) {
  LLMRT_ASSIGN_OR_RETURN(bool isThere, prepare(product, place));
  if (!isThere)
    return table_.toStatus(lt::kNotSupported, "multiplying");
  const Prepared& prepared = *prepared_.at(shapeOf(product));
  return table_.toStatus(enqueue(prepared, *prepared.algorithm, product, place),
                         "multiplying");
}

} // namespace llmrt
