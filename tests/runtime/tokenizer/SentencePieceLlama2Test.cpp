// SPDX-License-Identifier: Apache-2.0
// Llama 2's tokenizer.model, which is not in the repository, against
// libsentencepiece.
#include "tests/runtime/tokenizer/SentencePieceCases.h"

namespace llmrt {
namespace {

TEST(SentencePieceModel, GivesTheLibrarysIdsForLlama2) {
  std::string file = testDataFile("tok-llama2/tokenizer.model");
  if (file.empty())
    GTEST_SKIP() << "no tok-llama2 (set LLMC_TEST_DATA)";
  expectSameAsLibrary(readWholeFile(file), "Llama 2");
}

} // namespace
} // namespace llmrt
