// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/WeightIdentity.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/MappedFile.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNumSamples = 256;
constexpr size_t kSampleBytes = 4096;

std::string textOf(const flatbuffers::String* text) {
  return text ? text->str() : "";
}

std::string describeParameter(const fb::Parameter& parameter) {
  std::string text = absl::StrCat(
      textOf(parameter.name()), " ", textOf(parameter.source()), " ",
      textOf(parameter.weight_set()), " ", parameter.transposed(), " ",
      parameter.source_row_begin(), " ", parameter.source_row_end(), " ",
      static_cast<int>(parameter.init()), " ", parameter.init_std());
  if (parameter.global_shape())
    for (int64_t extent : *parameter.global_shape())
      absl::StrAppend(&text, " ", extent);
  return text;
}

uint64_t sampleFile(const MappedFile& file) {
  absl::Span<const uint8_t> bytes = file.bytes();
  if (bytes.size() <= kNumSamples * kSampleBytes)
    return crc64(bytes);
  uint64_t sum = 0;
  size_t last = bytes.size() - kSampleBytes;
  for (size_t i = 0; i < kNumSamples; ++i)
    sum = crc64(bytes.subspan(last / (kNumSamples - 1) * i, kSampleBytes), sum);
  return sum;
}

std::vector<std::string> weightFilesOf(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error))
    return {path};
  std::vector<std::string> files;
  for (fs::directory_iterator it(path, error), end; !error && it != end;
       it.increment(error))
    if (std::string file = it->path().string();
        absl::EndsWith(file, ".safetensors") || absl::EndsWith(file, ".gguf"))
      files.push_back(file);
  std::sort(files.begin(), files.end());
  return files;
}

} // namespace

std::string referencePathOf(const std::vector<WeightLocation>& weights) {
  for (const char* set : {"reference", "model"})
    for (const WeightLocation& location : weights)
      if (location.set == set)
        return location.path;
  return "";
}

std::string describeModel(const fb::Plan& plan) {
  std::string text;
  if (const fb::ModelCard* card = plan.model())
    absl::StrAppend(&text, textOf(card->family()), " ", card->vocab_size(), " ",
                    card->context_length(), " ", card->num_parameters(), " ",
                    textOf(card->config()), " ", card->digest(), "\n");
  // A tied parameter is on several stages.
  std::set<std::string> parameters;
  for (const fb::Stage* stage : *plan.stages())
    if (stage->parameters())
      for (const fb::Parameter* parameter : *stage->parameters())
        parameters.insert(describeParameter(*parameter));
  for (const std::string& parameter : parameters)
    absl::StrAppend(&text, parameter, "\n");
  return text;
}

std::string sampleWeights(const std::string& path) {
  if (absl::StartsWith(path, "random:"))
    return path;
  std::string text;
  for (const std::string& name : weightFilesOf(path)) {
    absl::StatusOr<MappedFile> file = MappedFile::open(name);
    if (file.ok())
      absl::StrAppend(&text, text.empty() ? "" : ",", file->bytes().size(), "-",
                      absl::StrFormat("%016x", sampleFile(*file)));
  }
  return text;
}

} // namespace llmrt
