// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cublaslt/TuningCache.h"

#include "runtime/base/Error.h"
#include "runtime/io/AtomicFile.h"

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace llmrt {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "llmrt tuning cache 1";
constexpr size_t kWordDigits = 16; // of a word of an algorithm

absl::Status notACache(const std::string& path, const std::string& why) {
  return makeError(
      ErrorCode::BadOptionValue,
      absl::StrCat("the tuning cache ", path, " is not one: ", why),
      "delete it, or name another file with --tuning-cache");
}

std::string textOf(const lt::Algorithm& algorithm) {
  std::string text;
  for (uint64_t word : algorithm.data)
    absl::StrAppendFormat(&text, "%016x", word);
  return text;
}

std::optional<lt::Algorithm> algorithmOf(const std::string& text) {
  constexpr size_t kWords = std::size(lt::Algorithm{}.data);
  if (text.size() != kWords * kWordDigits ||
      text.find_first_not_of("0123456789abcdef") != std::string::npos)
    return std::nullopt;
  lt::Algorithm algorithm;
  for (size_t i = 0; i < kWords; ++i)
    algorithm.data[i] =
        std::stoull(text.substr(i * kWordDigits, kWordDigits), nullptr, 16);
  return algorithm;
}

/// Text of a member; none if it is absent or no text.
std::optional<std::string> textIn(const Json& object, const char* name) {
  auto found = object.find(name);
  if (found == object.end() || !found->is_string())
    return std::nullopt;
  return found->get<std::string>();
}

} // namespace

absl::StatusOr<TuningCache::Choices>
TuningCache::read(const std::string& path) {
  Choices choices;
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    return choices;
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  if (!file || std::filesystem::is_directory(path, error))
    return makeError(ErrorCode::FileNotReadable,
                     absl::StrCat("cannot read the tuning cache ", path),
                     "name another file with --tuning-cache");
  const std::string text = bytes.str();
  const Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || textIn(root, "format") != kFormat)
    return notACache(path, absl::StrFormat("it has no format \"%s\"", kFormat));
  auto all = root.find("choices");
  if (all == root.end() || !all->is_array())
    return notACache(path, "it has no choices");
  for (const Json& entry : *all) {
    if (!entry.is_object())
      return notACache(path, "a choice is no object");
    auto gpu = textIn(entry, "gpu");
    auto library = textIn(entry, "cublaslt");
    auto product = textIn(entry, "product");
    auto algorithm = algorithmOf(textIn(entry, "algorithm").value_or(""));
    auto micros = entry.find("micros");
    if (!gpu || !library || !product || !algorithm || micros == entry.end() ||
        !micros->is_number())
      return notACache(path, "a choice lacks something");
    choices[{*gpu, *library, *product}] = {*algorithm,
                                           micros->get<double>() * 1e-6};
  }
  return choices;
}

absl::StatusOr<TuningCache> TuningCache::open(const std::string& path) {
  TuningCache cache;
  cache.path_ = path;
  if (!path.empty()) {
    LLMRT_ASSIGN_OR_RETURN(cache.choices_, read(path));
  }
  return cache;
}

std::optional<lt::Algorithm> TuningCache::find(const TuningKey& key) const {
  auto found = choices_.find(key);
  if (found == choices_.end())
    return std::nullopt;
  return found->second.algorithm;
}

absl::Status TuningCache::add(const TuningKey& key,
                              const lt::Algorithm& algorithm, double seconds) {
  choices_[key] = {algorithm, seconds};
  if (path_.empty())
    return absl::OkStatus();
  LLMRT_ASSIGN_OR_RETURN(Choices all, read(path_));
  all[key] = choices_[key];
  Json list = Json::array();
  for (const auto& [each, choice] : all)
    list.push_back({{"gpu", each.gpu},
                    {"cublaslt", each.library},
                    {"product", each.product},
                    {"algorithm", textOf(choice.algorithm)},
                    {"micros", std::round(choice.seconds * 1e8) / 100}});
  const Json root = {{"format", kFormat}, {"choices", list}};
  std::error_code error;
  const std::filesystem::path folder =
      std::filesystem::path(path_).parent_path();
  if (!folder.empty())
    std::filesystem::create_directories(folder, error);
  LLMRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path_));
  LLMRT_RETURN_IF_ERROR(file.append(
      root.dump(1, ' ', false, Json::error_handler_t::replace) + "\n"));
  return file.commit();
}

} // namespace llmrt
