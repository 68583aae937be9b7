#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a byte-level BPE tokenizer.json (the form GPT-2 and Llama 3 use) from texts.

For models that this repository makes itself; no library, same input gives the same
bytes. Not for training a tokenizer in earnest: it counts all pairs again each merge.
"""

import argparse
import collections
import json
import re

NUM_BYTES = 256


def byte_letters():
    """GPT-2's table: the printable letter that stands for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(NUM_BYTES) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters.update({byte: chr(NUM_BYTES + i) for i, byte in enumerate(others)})
    return [letters[byte] for byte in range(NUM_BYTES)]


def merge_word(word, pair):
    merged, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


def learn_merges(text, letters, num_merges):
    """Merges the most frequent pair, the first in order among equals."""
    pieces = re.findall(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+", text)
    words = collections.Counter(
        tuple(letters[byte] for byte in piece.encode()) for piece in pieces
    )
    merges = []
    while len(merges) < num_merges:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            raise SystemExit("make-tokenizer: too little text for the vocabulary")
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = collections.Counter(
            {merge_word(word, best): count for word, count in words.items()}
        )
    return merges


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    if arguments.vocabulary <= NUM_BYTES + 1:
        parser.error(f"--vocabulary must be larger than {NUM_BYTES + 1}")

    text = "".join(open(path, encoding="utf-8").read() for path in arguments.texts)
    letters = byte_letters()
    end = "<|endoftext|>"
    merges = learn_merges(text, letters, arguments.vocabulary - NUM_BYTES - 1)
    tokens = [*letters, *("".join(pair) for pair in merges), end]
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": len(tokens) - 1,
                "content": end,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [" ".join(pair) for pair in merges],
        },
    }
    if len(tokenizer["model"]["vocab"]) != arguments.vocabulary:
        raise SystemExit("make-tokenizer: two merges make the same token")
    with open(arguments.output, "w", encoding="utf-8") as file:
        json.dump(tokenizer, file, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main()
