// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/MemoryLimit.h"

#include "runtime/base/Error.h"
#include "tools/llmc/StepReport.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <algorithm>
#include <cctype>
#include <cmath>

using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {
namespace {

constexpr size_t kMostNamed = 3;

using NamedBytes = std::pair<std::string, int64_t>;

/// "saved.3 1.0 MiB, saved.4 1.0 MiB" of the largest.
std::string largestText(std::vector<NamedBytes> all) {
  std::stable_sort(all.begin(), all.end(),
                   [](const NamedBytes& a, const NamedBytes& b) {
                     return a.second > b.second;
                   });
  all.resize(std::min(all.size(), kMostNamed));
  return absl::StrJoin(all, ", ", [](std::string* out, const NamedBytes& one) {
    absl::StrAppend(out, one.first, " ", shortBytes(one.second));
  });
}

std::string whatIsTooLarge(const fb::Plan& plan, int stage,
                           int64_t limitBytes) {
  std::vector<NamedBytes> classes, buffers;
  for (fb::MemoryClass memoryClass : reportedClasses(plan))
    classes.push_back(
        {nameOf(memoryClass), classBytes(plan, stage, memoryClass)});
  for (const fb::Buffer* buffer : listOf(plan.stages()->Get(stage)->buffers()))
    buffers.push_back({textOf(buffer->name()), buffer->size_bytes()});
  return absl::StrCat(
      "each rank of pipeline stage ", stage, " needs ",
      shortBytes(arenaBytes(plan, stage)), " (", arenaBytes(plan, stage),
      " bytes), --memory-limit allows ", shortBytes(limitBytes), " (",
      limitBytes, "); largest classes: ", largestText(classes),
      "; largest buffers: ", largestText(buffers));
}

/// The options alone; tableOf has the rest.
std::string adviceText(const std::vector<FittingChange>& changes) {
  if (changes.empty())
    return "no change of options that llmc knows of makes it fit: raise the "
           "limit or take a smaller model";
  return absl::StrCat(
      "what makes it fit, the cheapest first: ",
      absl::StrJoin(changes, ", or ",
                    [](std::string* out, const FittingChange& change) {
                      absl::StrAppend(out, change.options, " (",
                                      shortBytes(change.arenaBytes), ")");
                    }));
}

std::string tableOf(const std::vector<FittingChange>& changes) {
  size_t width = 0;
  for (const FittingChange& change : changes)
    width = std::max(width, change.options.size());
  std::string text;
  for (const FittingChange& change : changes)
    absl::StrAppendFormat(&text, "%-*s  needs %s (%d bytes); %s\n",
                          static_cast<int>(width), change.options,
                          shortBytes(change.arenaBytes), change.arenaBytes,
                          change.price);
  return text;
}

} // namespace

absl::StatusOr<int64_t> parseBytes(const std::string& text) {
  std::string number = text;
  int shift = 0;
  if (!number.empty()) {
    switch (std::toupper(static_cast<unsigned char>(number.back()))) {
    case 'K':
      shift = 10;
      break;
    case 'M':
      shift = 20;
      break;
    case 'G':
      shift = 30;
      break;
    case 'T':
      shift = 40;
      break;
    }
    if (shift)
      number.pop_back();
  }
  double value = 0;
  bool isNumber = absl::SimpleAtod(number, &value);
  double bytes = std::ldexp(value, shift);
  if (!isNumber || !(bytes >= 1) || bytes > 9e18)
    return makeError(ErrorCode::BadOptionValue, "--memory-limit=" + text,
                     "give a number of bytes, with K, M, G or T if you like");
  return static_cast<int64_t>(bytes);
}

MemoryVerdict checkMemoryLimit(const fb::Plan& plan, int64_t limitBytes,
                               const CommandLine& line,
                               const TrialCompiler& compile) {
  int worst = largestStage(plan);
  if (arenaBytes(plan, worst) <= limitBytes)
    return {absl::OkStatus(), ""};
  std::string what = whatIsTooLarge(plan, worst, limitBytes);
  if (!compile)
    return {makeError(ErrorCode::MemoryLimit, what,
                      "compile from the model to see what makes it fit"),
            ""};
  std::vector<FittingChange> changes =
      fittingChanges(plan, limitBytes, line, compile);
  return {makeError(ErrorCode::MemoryLimit, what, adviceText(changes)),
          tableOf(changes)};
}

} // namespace llmc
