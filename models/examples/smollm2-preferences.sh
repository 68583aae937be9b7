#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Preference optimisation (DPO): the model of smollm2-finetune.sh learns which of two answers
# is wanted. Its own initial weights are the reference. Numbers to expect: docs/training.md.
#   models/examples/smollm2-preferences.sh MODEL OUT PAIRS.json
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH=$here/../../build/release/bin:$PATH
model=$1 out=$2 pairs=$3
tokenizer=$("$here/../../tools/get-model")
mkdir -p "$out"
"$here/prepare.py" preferences "$out/pairs.jsonl" "$pairs"
llmc compile "$model" --mode=train --objective=dpo --reference=precompute --batch=8 --seq=128 \
  -o "$out/train.fb"
llmrt run "$out/train.fb" --tokenizer="$tokenizer" --data="$out/pairs.jsonl" \
  --eval-data=pairs="$out/pairs.held-out.jsonl" --dpo-beta=0.1 \
  --steps="${STEPS:-40}" --learning-rate=2e-5 --warmup=4 --min-lr=2e-6 \
  --checkpoint-dir="$out/checkpoints" --keep=1 --metrics="$out/metrics.jsonl" --resume
rm -rf "$out/model"
llmrt export "$out/checkpoints" -o "$out/model"
