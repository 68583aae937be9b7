#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns texts and tables into the JSON lines that llmrt run --data reads.

  prepare.py text OUT.jsonl FILE...          one record a document
  prepare.py answers OUT.jsonl FILE.json     {"prompt", "completion"}
  prepare.py preferences OUT.jsonl FILE.json {"prompt", "chosen", "rejected"}

Documents of a .txt file are parted by lines "<<<name>>>" (or --part=REGEX);
without any it is one. A .jsonl file has one in each line ("text", or "name" and
"description"); a .json file is a list, or an object with one list, of rows whose
texts are joined. Every 20th document (by a hash of its text, so that adding some
moves no others) goes to OUT.held-out.jsonl; --held-out=0 keeps all, --tail=0.1
holds out the last tenth of each text instead.
"""
import argparse
import json
import pathlib
import re
import zlib

PROMPT = ("Below is an instruction that describes a task. Write a response that "
          "appropriately completes the request.\n\n### Instruction:\n{}\n\n"
          "### Response:\n")


def rows_of(path):
    value = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(value, dict):
        value = next(v for v in value.values() if isinstance(v, list))
    return value


def text_of_row(row):
    if "text" in row:
        return row["text"]
    if "description" in row:
        return f"{row.get('id', '')} {row.get('name', '')}\n{row['description']}"
    return "\n".join(f"{k}: {v}" for k, v in row.items() if isinstance(v, str) and v)


def documents(path, part):
    if path.suffix == ".json":
        return [text_of_row(row) for row in rows_of(path)]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [text_of_row(json.loads(line)) for line in text.splitlines()]
    return [d.strip("\n") + "\n" for d in re.split(part, text, flags=re.M)
            if d.strip()]


def prompt_of(row):
    task = row["instruction"]
    if row.get("input"):
        task += "\n\n### Input:\n" + row["input"]
    return PROMPT.format(task)


def records(options):
    for name in options.files:
        path = pathlib.Path(name)
        if options.kind == "text":
            for text in documents(path, options.part):
                yield {"text": text}
            continue
        for row in rows_of(path):
            answers = ("chosen", "rejected")
            if options.kind == "answers":
                yield {"prompt": prompt_of(row), "completion": row["output"]}
            elif all(row.get(a) for a in answers) and row["chosen"] != row["rejected"]:
                yield {"prompt": prompt_of(row), **{a: row[a] for a in answers}}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["text", "answers", "preferences"])
    parser.add_argument("out")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--part", default=r"^<<<.*>>>$")
    parser.add_argument("--held-out", type=int, default=20)
    parser.add_argument("--tail", type=float, default=0)
    options = parser.parse_args()
    train, held_out = [], []
    for record in records(options):
        line = json.dumps(record, ensure_ascii=False)
        if options.tail > 0:
            text = record["text"]
            cut = int(len(text) * (1 - options.tail))
            train.append(json.dumps({"text": text[:cut]}, ensure_ascii=False))
            held_out.append(json.dumps({"text": text[cut:]}, ensure_ascii=False))
        elif options.held_out and zlib.crc32(line.encode()) % options.held_out == 0:
            held_out.append(line)
        else:
            train.append(line)
    base = options.out.removesuffix(".jsonl")
    for path, lines in ((options.out, train), (base + ".held-out.jsonl", held_out)):
        if lines:
            pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
            print(f"{path}: {len(lines)} records")


if __name__ == "__main__":
    main()
