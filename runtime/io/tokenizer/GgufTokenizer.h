// SPDX-License-Identifier: Apache-2.0
// From a GGUF file to its tokenizer. What the keys mean to the tokenizer is in
// GgufTokenizer.cpp.
#pragma once

#include "runtime/io/Gguf.h"
#include "runtime/io/tokenizer/GgufTokenizerData.h"

namespace llmrt {

/// Reads the tokenizer.* keys. The result points into the file's bytes.
/// Errors  those of GgufFile's read functions.
absl::StatusOr<GgufTokenizerData> readGgufTokenizerData(const GgufFile& file);

/// Makes the tokenizer of a GGUF file, which may be closed afterwards.
/// Errors  those above, TokenizerCorrupt, TokenizerUnsupported.
absl::StatusOr<std::unique_ptr<Tokenizer>>
loadTokenizerFromGguf(const GgufFile& file);

} // namespace llmrt
