#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Summarises a trace of `llmrt run --trace=OUT.json`: where the time of a rank went.

  summarize-trace.py TRACE.json [--rank=0] [--from=ENTRY:N] [--subjects=REGEX]

Printed are, in milliseconds: the time of each kernel, the time on the link of each kind of
collective, how long compute waited for it, and the share that was hidden. --from leaves out
what began before the N-th (from 1) event of an entry: the first step of a run pays for
what later ones find ready. --subjects takes only collectives whose subject matches.
"""
import argparse
import collections
import json
import re
import sys


def load(path):
    with open(path) as file:
        return [e for e in json.load(file)["traceEvents"] if e["ph"] == "X"]


def start_time(events, place):
    """Microseconds from which events count."""
    if not place:
        return float("-inf")
    entry, _, number = place.rpartition(":")
    begins = sorted(e["ts"] for e in events if e["tid"] == 0 and e["name"] == entry)
    if not number.isdigit() or not 1 <= int(number) <= len(begins):
        sys.exit(f"summarize-trace: the trace has {len(begins)} events of entry "
                 f"'{entry}'; write --from=ENTRY:N with N from 1")
    return begins[int(number) - 1]


def totals(events):
    sums = collections.defaultdict(lambda: [0, 0.0])
    for event in events:
        sums[event["name"]][0] += 1
        sums[event["name"]][1] += event["dur"] / 1000
    return sums


def print_compute(events):
    sums = totals(e for e in events if e["tid"] == 1 and e["cat"] == "compute")
    whole = sum(ms for _, ms in sums.values())
    print(f"{'kernel':40} {'launches':>9} {'ms':>11} {'share':>7}")
    for name, (count, ms) in sorted(sums.items(), key=lambda item: -item[1][1]):
        print(f"{name:40} {count:9} {ms:11.3f} {ms / whole:7.1%}")
    print(f"{'all kernels':40} {sum(n for n, _ in sums.values()):9} {whole:11.3f}")


def print_communication(events, subjects):
    chosen = [e for e in events if e["tid"] and subjects.search(e["args"]["subject"])]
    link = totals(e for e in chosen if e["tid"] == 2)
    waits = totals(e for e in chosen if e["cat"] == "wait")
    print(f"\n{'collective':40} {'calls':>9} {'ms on link':>11} {'exposed':>11} {'hidden':>7}")
    for name, (count, ms) in sorted(link.items(), key=lambda item: -item[1][1]):
        exposed = min(waits[f"wait for {name}"][1], ms)
        hidden = 1 - exposed / ms if ms else 1
        print(f"{name:40} {count:9} {ms:11.3f} {exposed:11.3f} {hidden:7.1%}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--from", dest="place", default="", metavar="ENTRY:N")
    parser.add_argument("--subjects", type=re.compile, default=re.compile(""))
    options = parser.parse_args()
    events = [e for e in load(options.trace) if e["pid"] == options.rank]
    if not events:
        sys.exit(f"summarize-trace: no events of rank {options.rank}")
    begin = start_time(events, options.place)
    events = [e for e in events if e["ts"] >= begin]
    print_compute(events)
    print_communication(events, options.subjects)


if __name__ == "__main__":
    main()
