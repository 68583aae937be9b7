// SPDX-License-Identifier: Apache-2.0
#include "compiler/target/Target.h"

#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include <algorithm>

namespace llmc {
namespace {

constexpr CudaArchitecture kArchitectures[] = {
    {80, 80}, {86, 80}, {89, 80}, {90, 80}, {100, 86}, {103, 88}, {120, 87}};
constexpr int kDefaultArchitectures[] = {80, 90, 100};
constexpr const char* kPtx = "ptx";

std::string nameOf(int architecture) {
  return absl::StrCat("sm_", architecture);
}

absl::Status refuse(absl::string_view target,
                    const std::vector<std::string>& known,
                    absl::string_view part) {
  std::string near = llmrt::nearestName(std::string(part), known);
  std::string advice = near.empty()
                           ? absl::StrCat("use ", absl::StrJoin(known, ", "))
                           : absl::StrCat("did you mean ", near);
  return llmrt::makeError(llmrt::ErrorCode::BadOptionValue,
                          absl::StrCat("--target=", target), advice);
}

} // namespace

absl::Span<const CudaArchitecture> cudaArchitectures() {
  return kArchitectures;
}

std::string Target::text() const {
  if (!isCuda)
    return name();
  std::vector<std::string> parts;
  for (int architecture : architectures)
    parts.push_back(nameOf(architecture));
  if (ptxArchitecture > 0)
    parts.push_back(kPtx);
  return absl::StrCat(name(), ":", absl::StrJoin(parts, ","));
}

absl::StatusOr<Target> parseTarget(absl::string_view text) {
  Target target;
  if (text == "cpu")
    return target;
  target.isCuda = true;
  if (text == "cuda") {
    target.architectures.assign(std::begin(kDefaultArchitectures),
                                std::end(kDefaultArchitectures));
    return target;
  }
  absl::string_view list = text;
  if (!absl::ConsumePrefix(&list, "cuda:"))
    return refuse(text, {"cpu", "cuda"}, text);
  std::vector<std::string> known;
  for (const CudaArchitecture& architecture : kArchitectures)
    known.push_back(nameOf(architecture.number));
  known.push_back(kPtx);
  bool hasPtx = false;
  for (absl::string_view part : absl::StrSplit(list, ',')) {
    auto found = std::find(known.begin(), known.end(), part);
    if (found == known.end())
      return refuse(text, known, part);
    if (part == kPtx)
      hasPtx = true;
    else
      target.architectures.push_back(
          kArchitectures[found - known.begin()].number);
  }
  std::sort(target.architectures.begin(), target.architectures.end());
  target.architectures.erase(
      std::unique(target.architectures.begin(), target.architectures.end()),
      target.architectures.end());
  if (hasPtx)
    target.ptxArchitecture = target.architectures.empty()
                                 ? kDefaultArchitectures[0]
                                 : target.architectures.front();
  return target;
}

} // namespace llmc
