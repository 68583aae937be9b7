#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Supervised fine-tuning: the model of smollm2-continue-pretraining.sh learns to answer
# instructions. Numbers to expect: docs/training.md.
#   models/examples/smollm2-finetune.sh MODEL OUT INSTRUCTIONS.json
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH=$here/../../build/release/bin:$PATH
model=$1 out=$2 instructions=$3
tokenizer=$("$here/../../tools/get-model")
mkdir -p "$out"
"$here/prepare.py" answers "$out/answers.jsonl" "$instructions"
llmc compile "$model" --mode=train --objective=sft --batch=4 --seq=256 -o "$out/train.fb"
llmrt run "$out/train.fb" --tokenizer="$tokenizer" --data="$out/answers.jsonl" \
  --eval-data=answers="$out/answers.held-out.jsonl" \
  --steps="${STEPS:-60}" --learning-rate=1e-4 --warmup=5 --min-lr=1e-5 \
  --checkpoint-dir="$out/checkpoints" --keep=1 --metrics="$out/metrics.jsonl" --resume
rm -rf "$out/model"
llmrt export "$out/checkpoints" -o "$out/model"
