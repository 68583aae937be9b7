#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SmolLM2-135M goes on learning from the texts of a domain. Held out: documents of the
# domain, and a general text, so that what is forgotten shows too.
# Numbers to expect: docs/training.md.
#   models/examples/smollm2-continue-pretraining.sh OUT GENERAL.txt DOMAIN_FILE...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH=$here/../../build/release/bin:$PATH
out=$1 general=$2
shift 2
mkdir -p "$out"
model=$("$here/../../tools/get-model")
"$here/prepare.py" text "$out/domain.jsonl" "$@" --held-out=40
"$here/prepare.py" text "$out/general.jsonl" "$general" --tail=0.1
llmc compile "$model" --mode=train --batch=4 --seq=512 -o "$out/train.fb"
llmrt run "$out/train.fb" --data="$out/domain.jsonl" \
  --eval-data=domain="$out/domain.held-out.jsonl" \
  --eval-data=general="$out/general.held-out.jsonl" \
  --steps="${STEPS:-110}" --learning-rate=2e-4 --warmup=10 --min-lr=2e-5 --weight-decay=0.01 \
  --checkpoint-dir="$out/checkpoints" --keep=1 --metrics="$out/metrics.jsonl" --resume
rm -rf "$out/model"
llmrt export "$out/checkpoints" -o "$out/model"
