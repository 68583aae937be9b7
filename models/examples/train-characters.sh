#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A small Llama from nothing on the characters of one text: the first nine tenths to train,
# the last tenth to validate. Numbers to expect: docs/training.md.
#   models/examples/train-characters.sh TEXT OUT [option of llmrt run...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH=$here/../../build/release/bin:$PATH
text=$1 out=$2
shift 2
mkdir -p "$out"
"$here/prepare.py" text "$out/train.jsonl" "$text" --tail=0.1
"$here/make-character-tokenizer.py" "$text" -o "$out/tokenizer.json"
vocabulary=$(python3 -c '
import json, sys
print(len(json.load(open(sys.argv[1]))["model"]["vocab"]) + 1)' "$out/tokenizer.json")
llmc import -o "$out/model.mlir" \
  --new=llama,layers=6,hidden=192,heads=6,intermediate=512,context=256,vocab="$vocabulary"
llmc compile "$out/model.mlir" --mode=train --batch=8 --seq=256 -o "$out/train.fb"
llmrt run "$out/train.fb" --weights=random:1 --tokenizer="$out/tokenizer.json" \
  --data="$out/train.jsonl" --eval-data=validation="$out/train.held-out.jsonl" --eval-every=250 \
  --steps=2000 --learning-rate=1.5e-3 --warmup=100 --min-lr=1e-4 --beta2=0.99 --weight-decay=0.1 \
  --checkpoint-dir="$out/checkpoints" --save-every=500 --keep=2 \
  --metrics="$out/metrics.jsonl" --resume "$@"
rm -rf "$out/model"
llmrt export "$out/checkpoints" -o "$out/model"
llmc compile "$out/model" -o "$out/run.fb" --quiet
llmrt run "$out/run.fb" --prompt='ROMEO:' --max-new-tokens=200 --temperature=0.8
