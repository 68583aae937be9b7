// SPDX-License-Identifier: Apache-2.0
#include "runtime/generation/PromptFile.h"
#include "tests/fuzz/FuzzDriver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes) {
  llmrt::PromptFile prompts =
      llmrt::PromptFile::parse({data, sizeBytes}, "in.jsonl");
  for (int64_t index = 0; index < prompts.numPrompts(); ++index) {
    absl::StatusOr<llmrt::PromptLine> line = prompts.read(index);
    if (line.ok())
      (void)(line->id.dump() + line->text);
  }
  return 0;
}

std::vector<std::string> fuzzSeeds() {
  return {
      "{\"text\": \"Once\"}\n\n{\"prompt\": \"\\u00e9\\ud83d\\ude00\", \"id\": "
      "7, "
      "\"max_new_tokens\": 12, \"top_k\": 3, \"seed\": -1}\n",
      "{\"messages\": [{\"role\": \"system\", \"content\": \"Be\"}, {\"role\": "
      "\"user\", \"content\": \"x\"}], \"temperature\": 0.5, \"top_p\": 1e-1}",
      "{\"prompt\": \"a\", \"id\": \"q\", \"meta\": {\"a\": [1, [2, {}]], "
      "\"b\": null}}\r\n  \n{\"text\": 3}\n",
  };
}
