#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a tokenizer.json whose tokens are the characters of a text (ASCII), and
one that ends a text: byte-level BPE without merges.

  make-character-tokenizer.py TEXT -o tokenizer.json
"""
import argparse
import json
import pathlib


def byte_alphabet():
    """The printable character that byte-level BPE writes for each byte (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain},
            **{b: chr(256 + i) for i, b in enumerate(others)}}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("-o", required=True)
    options = parser.parse_args()
    characters = sorted(set(pathlib.Path(options.text).read_text(encoding="utf-8")))
    if any(ord(c) > 127 for c in characters):
        raise SystemExit("the text has characters beyond ASCII: they are several "
                         "bytes, so no byte-level token is one")
    alphabet = byte_alphabet()
    vocabulary = {alphabet[ord(c)]: i for i, c in enumerate(characters)}
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False,
                "trim_offsets": True, "use_regex": True}
    end = {"id": len(characters), "content": "<|endoftext|>", "single_word": False,
           "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None,
             "continuing_subword_prefix": "", "end_of_word_suffix": "",
             "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
             "merges": []}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None,
                 "added_tokens": [end], "normalizer": None,
                 "pre_tokenizer": bytes_of, "post_processor": None,
                 "decoder": bytes_of, "model": model}
    pathlib.Path(options.o).write_text(json.dumps(tokenizer, ensure_ascii=False))
    print(f"{options.o}: {len(characters) + 1} tokens")


if __name__ == "__main__":
    main()
