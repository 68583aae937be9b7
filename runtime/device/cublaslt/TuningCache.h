// SPDX-License-Identifier: Apache-2.0
// Which algorithm of cuBLASLt was the fastest for which product on which GPU: a
// JSON file that runs share, beside no plan (docs/reference/tuning-cache.md).
// Several processes may write it: each adds to what then is there, and a choice
// that is lost is made again.
#pragma once

#include "runtime/device/cublaslt/LtAbi.h"

#include "absl/status/statusor.h"

#include <map>
#include <optional>
#include <string>
#include <tuple>

namespace llmrt {

/// What a choice is for.
struct TuningKey {
  std::string gpu;     // its name
  std::string library; // version: algorithms belong to one
  std::string product;

  auto operator<=>(const TuningKey&) const = default;
};

class TuningCache {
public:
  /// Reads the file if there is one; "": choices are kept for this run only.
  /// Errors  FileNotReadable; BadOptionValue if it is another kind of file or
  ///         damaged: it is not overwritten.
  static absl::StatusOr<TuningCache> open(const std::string& path);

  /// Returns the choice, or none.
  std::optional<lt::Algorithm> find(const TuningKey& key) const;

  /// Keeps a choice and how long it took, and writes the file.
  /// Errors  of the file; the choice is kept for this run all the same.
  absl::Status add(const TuningKey& key, const lt::Algorithm& algorithm,
                   double seconds);

private:
  struct Choice {
    lt::Algorithm algorithm;
    double seconds;
  };

  using Choices = std::map<TuningKey, Choice>;

  static absl::StatusOr<Choices> read(const std::string& path);

  std::string path_;
  Choices choices_;
};

} // namespace llmrt
