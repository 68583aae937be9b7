#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs ctest in a build folder and counts cases: GoogleTest's and lit's one by one.

A program that ctest calls failed counts as at least one failure whatever it printed; a
case that was skipped is shown with its reason and hides nothing. The last line is
`N passed, N failed, N skipped`. It builds nothing: tools/test does.
"""

import argparse
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

# A rank of an MPI job may print in the middle of another's line.
GTEST_RUN = re.compile(r"\[ RUN      \] (\S+)")
GTEST_END = re.compile(
    r"\[(       OK |  FAILED  |  SKIPPED )\] (\S+?)(?:, where .*)? \(\d+ ms\)"
)
LIT_END = re.compile(
    r"^(PASS|FAIL|XFAIL|XPASS|UNSUPPORTED|UNRESOLVED|TIMEOUT|SKIPPED): "
    r"(.+?) \(\d+ of \d+\)",
    re.MULTILINE,
)
OUTCOMES = {
    "       OK ": "passed",
    "  FAILED  ": "failed",
    "  SKIPPED ": "skipped",
    "PASS": "passed",
    "XFAIL": "passed",
    "UNSUPPORTED": "skipped",
    "SKIPPED": "skipped",
}
WORST_FIRST = ("failed", "skipped", "passed")


def worse(a, b):
    return min(a, b, key=WORST_FIRST.index)


def skip_reason(text):
    """The lines between RUN and SKIPPED, without GoogleTest's file and line."""
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and not line.endswith(": Skipped"))


def gtest_cases(output):
    """{name: outcome}, {name: why skipped}; ranks of one job are merged."""
    cases, reasons, began = {}, {}, {}
    events = [(m.start(), m) for m in GTEST_RUN.finditer(output)]
    events += [(m.start(), m) for m in GTEST_END.finditer(output)]
    for _, match in sorted(events, key=lambda event: event[0]):
        if match.re is GTEST_RUN:
            began[match.group(1)] = match.end()
            cases.setdefault(match.group(1), None)
            continue
        name, outcome = match.group(2), OUTCOMES[match.group(1)]
        if outcome == "skipped":
            text = output[began.get(name, match.start()) : match.start()]
            reasons[name] = skip_reason(text)
        known = cases.get(name)
        cases[name] = worse(known, outcome) if known else outcome
    # Begun and not ended: the program died in this case.
    return {name: end or "failed" for name, end in cases.items()}, reasons


def lit_cases(output):
    cases, reasons = {}, {}
    for match in LIT_END.finditer(output):
        cases[match.group(2)] = OUTCOMES.get(match.group(1), "failed")
        if cases[match.group(2)] == "skipped":
            reasons[match.group(2)] = "needs what this build lacks (REQUIRES)"
    return cases, reasons


class Count:
    def __init__(self):
        self.numbers = {"passed": 0, "failed": 0, "skipped": 0}
        self.failed = []
        self.skipped = {}  # reason: [names]

    def add(self, name, outcome, reason=""):
        self.numbers[outcome] += 1
        if outcome == "failed":
            self.failed.append(name)
        if outcome == "skipped":
            self.skipped.setdefault(reason or "no reason given", []).append(name)

    def add_program(self, case):
        """One <testcase> of ctest's report."""
        program = case.get("name")
        status = case.get("status")
        output = case.findtext("system-out") or ""
        if status in ("notrun", "disabled"):
            skipped = case.find("skipped")
            message = skipped.get("message", "") if skipped is not None else ""
            # ctest also calls a program that is missing "not run".
            if re.search("unable to find|not available|fixture", message, re.I):
                self.add(f"{program}: {message}", "failed")
            else:
                self.add(program, "skipped", skip_reason(output) or message)
            return
        cases, reasons = gtest_cases(output)
        if not cases:
            cases, reasons = lit_cases(output)
        has_failed = status != "run"
        if has_failed and "failed" not in cases.values():
            failure = case.find("failure")
            why = failure.get("message", "") if failure is not None else status
            self.add(f"{program}: {why or 'failed'}", "failed")
        elif not cases:
            self.add(program, "passed")
        for name, outcome in cases.items():
            self.add(f"{program}: {name}", outcome, reasons.get(name, ""))

    def print_summary(self):
        for reason, names in sorted(self.skipped.items()):
            shown = ", ".join(names[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            print(f"skipped: {shown}{more}\n         {reason}")
        for name in self.failed:
            print(f"FAILED:  {name}")
        print(", ".join(f"{number} {name}" for name, number in self.numbers.items()))


def cached_model():
    """SmolLM2's file, or "" where it was never downloaded: its tests are skipped."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "get-model")
    command = [script, "--cached"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()


def run_ctest(arguments, report):
    command = ["ctest", "--test-dir", arguments.build, "--output-on-failure"]
    command += ["--no-tests=error", "--output-junit", report]
    command += ["--test-output-size-passed", "100000000"]
    command += ["--test-output-size-failed", "100000000"]
    command += ["--timeout", str(arguments.timeout), "-j", str(arguments.jobs)]
    if arguments.label:
        command += ["-L", arguments.label]
    environment = dict(os.environ)
    # Open MPI refuses root, and more ranks than cores, unless told that it is meant.
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    environment["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    if "LLMC_SMOLLM2_GGUF" not in environment:
        environment["LLMC_SMOLLM2_GGUF"] = cached_model()
    return subprocess.run(command, env=environment).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", help="build folder")
    parser.add_argument("--label", help="only tests with this ctest label")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=600, help="seconds of one test")
    arguments = parser.parse_args()

    report = os.path.abspath(os.path.join(arguments.build, "test-report.xml"))
    if os.path.exists(report):
        os.remove(report)
    code = run_ctest(arguments, report)
    count = Count()
    if not os.path.exists(report):
        count.add("ctest wrote no report", "failed")
    else:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            count.add_program(case)
    if code != 0 and count.numbers["failed"] == 0:
        count.add(f"ctest: exit code {code}", "failed")
    print()
    count.print_summary()
    return 1 if count.numbers["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
