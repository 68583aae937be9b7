# SPDX-License-Identifier: Apache-2.0
"""GoogleTest programs as items: what they list, and what their reports mean."""
import collections
import json
import math
import pathlib
import re
import tempfile

from gpusuite.results import Failed, Item, Skipped

KERNELS = ["kernels-cuda-test", "--on-gpu"]
# Of the first failure; its traces, which name the shape, come last.
FIRST_FAILURE = 1500
# When a suite is repeated case by case: seconds of each, and how many may hang.
SECONDS_OF_CASE, MOST_HUNG_CASES = 8, 2
# GoogleTest's own texts of a case; all others are properties that tests recorded.
NOT_PROPERTIES = {
    "name", "value_param", "type_param", "file", "status", "result", "time",
    "timestamp", "classname", "line",
}  # fmt: skip


def by_suite(suite_name, case):
    return suite_name, f"{suite_name}.*"


def by_case(suite_name, case):
    return case.split("/", 1)[-1], f"{suite_name}.{case}"


def listed(text):
    """Suites and cases of --gtest_list_tests."""
    suite_name = ""
    for line in text.splitlines():
        name = line.split("#")[0].rstrip()
        if line.startswith("  "):
            yield suite_name, name.strip()
        elif name.endswith(".") and " " not in name:
            suite_name = name[:-1]


def items(suite, kind, command, chosen, grouped, limit, variables=None, variants=()):
    """One item for each group of tests that the program lists. `limit`: seconds of one
    run; `variants`: {what is different: variables} for when the kind hangs."""
    try:
        program = suite.program(command[0])
        options = ["--gtest_list_tests", f"--gtest_filter={chosen}"]
        done = suite.run([program, *command[1:], *options], 60)
        groups = collections.defaultdict(list)
        for suite_name, case in listed(done.output):
            groups[grouped(suite_name, case)].append(f"{suite_name}.{case}")
        problem = done.why(command[0]) if not groups else ""
    except Failed as failed:
        groups, problem = {}, str(failed)
    if not groups:
        yield Item(kind, missing(problem))
    for (name, pattern), cases in groups.items():
        one_by_one = SECONDS_OF_CASE * (MOST_HUNG_CASES + 1) if len(cases) > 1 else 0
        yield Item(
            f"{kind} {name}",
            gtest(suite, command, pattern, variables, limit, cases),
            5,
            limit + one_by_one,
            kind,
            [
                (what, gtest(suite, command, pattern, {**(variables or {}), **more}, limit))
                for what, more in dict(variants).items()
            ],
        )


def missing(problem):
    def run(budget):
        raise Failed(problem)

    return run


def gtest(suite, command, pattern, variables=None, limit=math.inf, cases=()):
    """Runs the cases of a pattern; where that does not say which of `cases` fail, because
    the program ended or one failure may have brought others, each by itself."""

    def run(budget):
        failed, done = None, None
        try:
            report, done = run_once(suite, command, pattern, variables, min(limit, budget.left()))
            return judge(report, done, command[0])
        except Failed as problem:
            failed = problem
        if len(cases) > 1 and (failed.hung or failed.numbers.get("failed", 2) > 1):
            ended = alone(suite, command, cases, variables, budget)
            told = ", ".join(f"{name.split('.', 1)[-1]} {how}" for name, how in ended)
            failed.args = (f"{failed}; each by itself: {told or 'no time'}",)
        raise failed

    return run


def run_once(suite, command, pattern, variables, seconds):
    """Cases of the report, and how the program ended."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        done = suite.run(
            [
                suite.program(command[0]),
                *command[1:],
                f"--gtest_filter={pattern}",
                f"--gtest_output=json:{report}",
            ],
            seconds,
            variables={**plans_folder(suite, command), **(variables or {})},
        )
        try:
            return read_report(report), done
        except (OSError, ValueError):
            raise Failed(done.why(command[0]), seed(done.output), hung=done.timed_out)


def alone(suite, command, cases, variables, budget):
    """(case, "fails", "hangs" or "ends the program") of those that do."""
    ended, hung = [], 0
    for case in cases:
        if hung == MOST_HUNG_CASES or budget.left() < 2:
            ended.append((case, "and later ones not tried"))
            break
        try:
            seconds = min(SECONDS_OF_CASE, budget.left())
            report, _ = run_once(suite, command, case, variables, seconds)
            if any(c.get("failures") for c in report):
                ended.append((case, "fails"))
        except Failed as failed:
            hung += failed.hung
            ended.append((case, "hangs" if failed.hung else "ends the program"))
    return ended


def plans_folder(suite, command):
    if command[0] != "plans-gpu-test":
        return {}
    return {"LLMC_GPU_PLANS": f"{suite.folder()}/plans"}


def read_report(path):
    report = json.loads(path.read_text())
    return [case for group in report["testsuites"] for case in group["testsuite"]]


def seed(output):
    """What repeats the random inputs."""
    found = re.search(r"--seed=(\d+)", output)
    return {"seed": int(found.group(1))} if found else {}


def judge(cases, done, name):
    """Numbers of a report: counts, and the errors that the tests kept."""
    skipped = [c for c in cases if c.get("result") == "SKIPPED"]
    failed = [c for c in cases if c.get("failures")]
    numbers = {"passed": len(cases) - len(skipped) - len(failed)}
    if skipped:
        numbers["skipped"] = len(skipped)
    for case in cases:
        for key, value in properties(case):
            numbers[key] = worse(numbers.get(key, 0.0), value)
    if failed:
        numbers.update(failed=len(failed), **seed(done.output))
        text = failed[0]["failures"][0]["failure"]
        names = ", ".join(c["name"] for c in failed)
        raise Failed(
            f"{len(failed)} failed: {names}; first: {bounded(text)}"
            + described(done.output),
            numbers,
        )
    if done.code != 0:
        raise Failed(done.why(name), {**numbers, **seed(done.output)}, hung=done.timed_out)
    if cases and len(skipped) == len(cases):
        raise Skipped(skip_reason(skipped[0], done.output))
    return numbers


def bounded(text):
    """The beginning, which says what, and the end, which says where."""
    text = " ".join(text.split())
    if len(text) <= FIRST_FAILURE:
        return text
    return f"{text[:FIRST_FAILURE * 2 // 3]} ... {text[-FIRST_FAILURE // 3:]}"


def described(output):
    """What the tests printed of the first wrong result."""
    lines = [line for line in output.splitlines() if line.startswith("wrong: ")]
    return f"; {lines[0][len('wrong: '):]}" if lines else ""


def properties(case):
    for key, value in case.items():
        if key in NOT_PROPERTIES or not isinstance(value, str):
            continue
        try:
            yield key, float(value)
        except ValueError:
            pass


def worse(a, b):
    return b if math.isnan(b) or b > a else a


def skip_reason(case, output):
    for message in case.get("skipped", []):
        return " ".join(message.get("message", "").split())
    # GoogleTest before 1.13 keeps the reason out of its report.
    lines = [line.strip() for line in output.splitlines()]
    for before, line in zip(lines, lines[1:]):
        if before.endswith(": Skipped"):
            return line
    return "no reason given"
