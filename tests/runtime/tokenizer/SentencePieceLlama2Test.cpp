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
  expectModelIsTheLibrarys(readWholeFile(file), "Llama 2");
  expectOwnBpeIsTheLibrarys(readWholeFile(file), "Llama 2, own BPE");
}

} // namespace
} // namespace llmrt
