// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/Budget.h"
#include "runtime/base/NearestName.h"

#include "runtime/base/Error.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include <algorithm>
#include <set>

namespace llmc {
namespace {

using Json = nlohmann::ordered_json;
using llmrt::ErrorCode;
using llmrt::makeError;

constexpr const char* kContributors = "contributors";

/// Joins the path of a key: "entries.decode".
std::string join(const std::string& path, const std::string& key) {
  return path.empty() ? key : absl::StrCat(path, ".", key);
}

class BudgetReader {
public:
  BudgetReader(const std::string& path, const std::vector<Counter>& counters)
      : path_(path) {
    for (const Counter& counter : counters)
      names_.insert(counter.name);
    // A class that this plan does not use has 0 bytes: its limit always holds.
    for (fb::MemoryClass memoryClass : fb::EnumValuesMemoryClass())
      names_.insert(absl::StrCat("memory_bytes.", nameOf(memoryClass)));
  }

  absl::StatusOr<Budget> read(const Json& json) {
    if (!json.is_object())
      return malformed("it is not a JSON object");
    for (const auto& [key, value] : json.items())
      if (key == kContributors)
        LLMRT_RETURN_IF_ERROR(readContributors(value));
      else
        LLMRT_RETURN_IF_ERROR(readLimits(key, value));
    return std::move(budget_);
  }

private:
  absl::Status malformed(const std::string& what,
                         const std::string& advice =
                             "see docs/reference/llmc.md, or write one with "
                             "--update") const {
    return makeError(ErrorCode::BudgetMalformed,
                     absl::StrCat(path_, ": ", what), advice);
  }

  /// Keys that may follow `path`.
  std::vector<std::string> keysBelow(const std::string& path) const {
    std::string prefix = path.empty() ? "" : path + ".";
    std::set<std::string> keys;
    if (path.empty())
      keys.insert(kContributors);
    for (const std::string& name : names_)
      if (absl::StartsWith(name, prefix)) {
        std::string rest = name.substr(prefix.size());
        keys.insert(rest.substr(0, rest.find('.')));
      }
    return {keys.begin(), keys.end()};
  }

  /// The deepest part of a name that does not exist, with what exists there.
  absl::Status unknownKey(const std::string& name) const {
    std::string path;
    for (const std::string& key :
         std::vector<std::string>(absl::StrSplit(name, '.'))) {
      std::vector<std::string> keys = keysBelow(path);
      bool isKnown = std::find(keys.begin(), keys.end(), key) != keys.end();
      if (isKnown) {
        path = join(path, key);
        continue;
      }
      std::string near = llmrt::nearestName(key, keys);
      std::string advice =
          near.empty() ? absl::StrCat("known here: ", absl::StrJoin(keys, ", "))
                       : absl::StrCat("did you mean \"", near, "\"");
      std::string where = path.empty() ? "" : absl::StrCat(" in ", path);
      if (path == "entries" || absl::EndsWith(path, ".sent_bytes"))
        return makeError(ErrorCode::BudgetOfAnotherPlan,
                         absl::StrCat(path_, ": the plan has no ",
                                      path == "entries" ? "entry" : "mesh axis",
                                      " \"", key, "\""),
                         advice);
      return malformed(absl::StrCat("unknown key \"", key, "\"", where),
                       advice);
    }
    return malformed(
        absl::StrCat("\"", name, "\" is not a number but a group"));
  }

  absl::Status readLimits(const std::string& name, const Json& value) {
    if (value.is_object()) {
      if (names_.count(name))
        return malformed(
            absl::StrCat("\"", name, "\" is a number, not a group"),
            "give a whole number");
      if (keysBelow(name).empty())
        return unknownKey(name);
      for (const auto& [key, below] : value.items())
        LLMRT_RETURN_IF_ERROR(readLimits(join(name, key), below));
      return absl::OkStatus();
    }
    if (!names_.count(name))
      return unknownKey(name);
    bool isWhole = value.is_number_integer() ||
                   (value.is_number_float() && value.get<double>() >= 0 &&
                    value.get<double>() < 9e18);
    if (!isWhole || value.get<double>() < 0 || value.get<double>() > 9e18)
      return malformed(absl::StrCat("\"", name, "\" is ",
                                    value.dump(-1, ' ', false,
                                               Json::error_handler_t::replace)),
                       "give a number that is not negative");
    budget_.limits[name] = value.is_number_float()
                               ? static_cast<int64_t>(value.get<double>())
                               : value.get<int64_t>();
    return absl::OkStatus();
  }

  absl::Status readContributors(const Json& json) {
    if (!json.is_object())
      return malformed(absl::StrCat("\"", kContributors, "\" is no object"));
    for (const auto& [counter, parts] : json.items()) {
      if (!parts.is_object())
        return malformed(
            absl::StrCat("\"", kContributors, ".", counter, "\" is no object"));
      for (const auto& [name, amount] : parts.items()) {
        if (!amount.is_number_integer())
          return malformed(absl::StrCat("\"", kContributors, ".", counter, ".",
                                        name, "\" is no whole number"));
        budget_.contributors[counter][name] = amount.get<int64_t>();
      }
    }
    return absl::OkStatus();
  }

  std::string path_;
  std::set<std::string> names_;
  Budget budget_;
};

} // namespace

absl::StatusOr<Budget> parseBudget(absl::string_view text,
                                   const std::string& path,
                                   const std::vector<Counter>& counters) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (json.is_discarded())
    return makeError(ErrorCode::BudgetMalformed,
                     absl::StrCat(path, ": it is not JSON"),
                     "write one with --update");
  return BudgetReader(path, counters).read(json);
}

std::string writeBudget(const std::vector<Counter>& counters) {
  Json json = Json::object(), contributors = Json::object();
  for (const Counter& counter : counters) {
    Json* at = &json;
    for (const std::string& key :
         std::vector<std::string>(absl::StrSplit(counter.name, '.')))
      at = &(*at)[key];
    *at = counter.value;
    for (const auto& [name, amount] : counter.contributors)
      contributors[counter.name][name] = amount;
  }
  json[kContributors] = contributors;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace llmc
