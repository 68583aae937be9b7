#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/summarize-trace.py adds up a trace made by hand."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "summarize-trace.py"


def event(name, row, begin, duration, category, subject="", rank=0):
    arguments = {"rows": 1} if row == 0 else {"command": 0, "subject": subject, "pass": "p"}
    return {"name": name, "cat": category, "ph": "X", "pid": rank, "tid": row,
            "ts": begin, "dur": duration, "args": arguments}


EVENTS = [
    {"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": "rank 0"}},
    event("forward", 0, 0, 9000, "entries"),
    event("forward", 0, 10000, 9000, "entries"),
    event("linear", 1, 100, 1000, "compute"),
    event("linear", 1, 10100, 3000, "compute"),
    event("rope", 1, 14000, 1000, "compute"),
    event("AllGather", 2, 11000, 4000, "communication", "layers.0.w"),
    event("AllGather", 2, 15000, 4000, "communication", "head"),
    event("wait for AllGather", 1, 14500, 500, "wait", "layers.0.w"),
    event("wait for AllGather", 1, 15000, 4000, "wait", "head"),
    event("linear", 1, 0, 7000, "compute", rank=1),
]


class SummarizeTraceTest(unittest.TestCase):
    def summarize(self, *options):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "trace.json"
            path.write_text(json.dumps({"traceEvents": EVENTS}))
            done = subprocess.run([sys.executable, SCRIPT, path, *options],
                                  capture_output=True, text=True)
        lines = [line.split() for line in done.stdout.splitlines() if line]
        return {line[0]: line[1:] for line in lines}, done

    def test_adds_what_one_rank_did(self):
        rows, _ = self.summarize()
        self.assertEqual(rows["linear"], ["2", "4.000", "80.0%"])
        self.assertEqual(rows["AllGather"], ["2", "8.000", "4.500", "43.8%"])

    def test_begins_where_it_is_told(self):
        rows, _ = self.summarize("--from=forward:2", "--subjects=layers")
        self.assertEqual(rows["linear"], ["1", "3.000", "75.0%"])
        self.assertEqual(rows["AllGather"], ["1", "4.000", "0.500", "87.5%"])

    def test_refuses_a_place_that_is_not_there(self):
        _, done = self.summarize("--from=forward:3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("2 events of entry 'forward'", done.stderr)


if __name__ == "__main__":
    unittest.main()
