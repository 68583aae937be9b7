#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/run-tests.py counts what really happened: no failure or skip gets lost."""

import importlib.util
import pathlib
import unittest
import xml.etree.ElementTree as ElementTree

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "run-tests.py"
spec = importlib.util.spec_from_file_location("run_tests", SCRIPT)
run_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_tests)

PASSING = """[ RUN      ] Sum.Adds
[       OK ] Sum.Adds (0 ms)
"""
SKIPPING = """[ RUN      ] Data.Reads
tests/DataTest.cpp:18: Skipped
LLMC_TEST_DATA has no stories260K
[  SKIPPED ] Data.Reads (0 ms)
"""
FAILING = """[ RUN      ] Sum.Overflows
tests/SumTest.cpp:9: Failure
[  FAILED  ] Sum.Overflows, where GetParam() = 3 (1 ms)
"""
CRASHING = """[ RUN      ] Sum.Crashes
Segmentation fault
"""


def counted(output, status="run", message=""):
    case = ElementTree.Element("testcase", name="sum-test", status=status)
    ElementTree.SubElement(case, "system-out").text = output
    if status == "fail":
        ElementTree.SubElement(case, "failure", message=message)
    if status == "notrun":
        ElementTree.SubElement(case, "skipped", message=message)
    count = run_tests.Count()
    count.add_program(case)
    return count


class GoogleTest(unittest.TestCase):
    def test_cases_are_counted_one_by_one(self):
        count = counted(PASSING + SKIPPING)
        self.assertEqual(count.numbers, {"passed": 1, "failed": 0, "skipped": 1})
        self.assertEqual(
            count.skipped,
            {"LLMC_TEST_DATA has no stories260K": ["sum-test: Data.Reads"]},
        )

    def test_a_skip_does_not_hide_a_failure(self):
        count = counted(SKIPPING + FAILING, "fail")
        self.assertEqual(count.numbers, {"passed": 0, "failed": 1, "skipped": 1})
        self.assertEqual(count.failed, ["sum-test: Sum.Overflows"])

    def test_a_case_that_does_not_end_has_failed(self):
        count = counted(PASSING + CRASHING, "fail")
        self.assertEqual(count.failed, ["sum-test: Sum.Crashes"])

    def test_a_program_that_fails_after_its_cases_has_failed(self):
        count = counted(PASSING, "fail", "Exit code 1")
        self.assertEqual(count.numbers, {"passed": 1, "failed": 1, "skipped": 0})
        self.assertEqual(count.failed, ["sum-test: Exit code 1"])

    def test_ranks_of_one_job_count_once_and_the_worst_counts(self):
        self.assertEqual(counted(PASSING * 4).numbers["passed"], 1)
        mixed = "[  FAILED  ] Sum.Adds (0 ms)\n" + PASSING
        self.assertEqual(counted(mixed, "fail").numbers["failed"], 1)


class OtherPrograms(unittest.TestCase):
    def test_lit(self):
        count = counted(
            "PASS: llmc :: passes/a.mlir (1 of 3)\n"
            "FAIL: llmc :: passes/b.mlir (2 of 3)\n"
            "UNSUPPORTED: llmc :: passes/c.mlir (3 of 3)\n",
            "fail",
        )
        self.assertEqual(count.numbers, {"passed": 1, "failed": 1, "skipped": 1})

    def test_a_program_without_cases_counts_as_one(self):
        self.assertEqual(counted("done\n").numbers["passed"], 1)
        self.assertEqual(counted("", "fail", "Timeout").failed, ["sum-test: Timeout"])

    def test_a_program_that_is_missing_has_failed(self):
        count = counted("", "notrun", "Unable to find executable: sum-test")
        self.assertEqual(count.numbers["failed"], 1)

    def test_a_program_that_ctest_skips_is_skipped(self):
        count = counted("no GPU in this machine\n", "notrun", "SKIP_RETURN_CODE=77")
        self.assertEqual(count.skipped, {"no GPU in this machine": ["sum-test"]})


if __name__ == "__main__":
    unittest.main()
