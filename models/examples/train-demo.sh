#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The small model of models/demo: a Llama from nothing on the documents of this repository.
# Numbers to expect: docs/training.md.
#   models/examples/train-demo.sh OUT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
export PATH=$root/build/release/bin:$PATH
out=$1
mkdir -p "$out"
shopt -s globstar nullglob
documents=("$root"/README.md "$root"/CONTRIBUTING.md "$root"/docs/**/*.md)
python3 "$root/tools/make-tokenizer.py" --vocabulary=1024 -o "$out/tokenizer.json" "${documents[@]}"
python3 - "$out/documents.txt" "${documents[@]}" <<'END'
import sys
with open(sys.argv[1], "w", encoding="utf-8") as out:
    for name in sys.argv[2:]:
        out.write(f"<<<{name}>>>\n" + open(name, encoding="utf-8").read())
END
"$here/prepare.py" text "$out/documents.jsonl" "$out/documents.txt" --held-out=0
llmc import -o "$out/model.mlir" \
  --new=llama,layers=4,hidden=192,heads=6,kv_heads=6,intermediate=512,vocab=1024,context=512,tied=1
llmc compile "$out/model.mlir" --mode=train --batch=8 --seq=256 -o "$out/train.fb"
llmrt run "$out/train.fb" --weights=random:1 --tokenizer="$out/tokenizer.json" \
  --data="$out/documents.jsonl" --steps="${STEPS:-700}" --learning-rate=2e-3 --warmup=50 \
  --min-lr=1e-4 --beta2=0.99 --weight-decay=0.1 \
  --checkpoint-dir="$out/checkpoints" --keep=1 --metrics="$out/metrics.jsonl" --resume
rm -rf "$out/model"
llmrt export "$out/checkpoints" -o "$out/model" --dtype=bf16
