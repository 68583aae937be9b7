// SPDX-License-Identifier: Apache-2.0
// What a model family is to the importer: one constant in the family's own
// file, one line in Families.def. It holds data and two functions; no family
// knows another.
#pragma once

#include "models/ConfigReader.h"
#include "models/ModelBuilder.h"
#include "models/ModelConfig.h"

#include <string>
#include <utility>
#include <vector>

namespace llmc {

struct Family {
  /// The name in --new= and in llm.model.
  const char* name;
  /// model_type of config.json.
  std::vector<std::string> modelTypes;
  /// Classes of config.json's `architectures` that have this family's output
  /// head.
  std::vector<std::string> architectures;
  /// general.architecture of a GGUF file; empty if none is read.
  std::string ggufArchitecture;
  /// What --new= starts from: a published config.json.
  const char* defaults;
  /// Reads config.json; errors stay in the reader.
  void (*read)(ConfigReader& reader, ModelConfig& config);
  /// Builds the forward function.
  void (*build)(ModelBuilder& m, const ModelConfig& config);
  /// What its class assumes where a text_config inside config.json leaves a
  /// field out; nullptr if it has no text_config.
  const char* textDefaults = nullptr;
  /// Prefixes of logical names, and what some checkpoints write instead.
  std::vector<std::pair<std::string, std::string>> prefixes = {};
  /// What this family's config.json calls a field that Llama's calls otherwise.
  std::vector<std::pair<std::string, std::string>> fields = {};
  /// Logical names of tensors, inside a layer or outside, and llama.cpp's,
  /// where they are not in GgufImport.cpp's common table.
  std::vector<std::pair<std::string, std::string>> ggufTensors = {};

  /// Returns this family's word for a field of Llama's config.json.
  std::string field(const std::string& llamaField) const {
    for (const auto& [from, to] : fields)
      if (from == llamaField)
        return to;
    return llamaField;
  }
};

/// Returns every family of Families.def, in that order.
const std::vector<const Family*>& families();

/// Returns the family of that name, or nullptr.
const Family* findFamily(const std::string& name);

/// Returns "llama, mistral, ..." for messages.
std::string familyNames();

} // namespace llmc
