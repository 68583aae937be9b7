#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/gpu-suite with programs that only pretend: what it keeps, when it ends, what it
says. The real programs have tests of their own."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

from gpusuite import check, measure, pack  # noqa: E402
from gpusuite.results import Budget, Failed, Skipped  # noqa: E402
from gpusuite.suite import Done  # noqa: E402

CEILINGS = """
import json, sys
if SKIP:
    print(json.dumps({"skipped": "no GPU/driver: nothing is here"}))
    sys.exit(77)
if "--probe" in sys.argv:
    print(json.dumps({"gpu": "Pretended", "architecture": 90}))
else:
    print(json.dumps({"read_bytes_per_second": 4e12, "copy_bytes_per_second": 3e12,
                      "bf16_flops_per_second": 8e14, "matrix_library": "none"}))
"""

# TESTS: {suite: {case: "ok" | "skip" | "fail" | "hang"}}
GTEST = """
import fnmatch, json, sys, time
option = {a.split("=")[0]: a.split("=", 1)[1] for a in sys.argv if "=" in a}
if "--gtest_list_tests" in sys.argv:
    for suite, cases in TESTS.items():
        print(suite + ".")
        for case in cases:
            print("  " + case + "  # GetParam() = something")
    sys.exit(0)
report = {"testsuites": []}
code = 0
for suite, cases in TESTS.items():
    group = {"name": suite, "testsuite": []}
    for case, end in cases.items():
        if not fnmatch.fnmatch(suite + "." + case, option["--gtest_filter"]):
            continue
        if end == "hang":
            time.sleep(1000)
        row = {"name": case, "result": "COMPLETED", "time": "0.1s"}
        if end == "skip":
            row["result"] = "SKIPPED"
            print("x.cpp:1: Skipped\\nthe reason of the test\\n")
        elif end == "fail":
            row["failures"] = [{"failure": "x.cpp:7 expected 1 was 2"}]
            code = 1
        else:
            row["largest_error"] = "2.5e-07"
        group["testsuite"].append(row)
    report["testsuites"].append(group)
open(option["--gtest_output"].split(":", 1)[1], "w").write(json.dumps(report))
sys.exit(code)
"""

LLMRT = """
import json, sys
if "8b.fb" in sys.argv[2]:
    sys.exit("llmrt: LLMC-E0803: out of memory")
rows = [{"name": "prefill/512", "real_time": 0.02, "tokens_per_second": 50000.0},
        {"name": "decode/128", "real_time": 1.0, "tokens_per_second": 1000.0,
         "best_tokens_per_second": 1100.0, "weight_bytes_per_token": 2.5e9,
         "cache_bytes_per_token": 5e8}]
print(json.dumps({"context": {"start_to_prefill_seconds": "0.9",
                              "start_to_first_token_seconds": "1.1"},
                  "benchmarks": rows}))
"""

TORCH = """
import json, sys
if sys.argv[2:] == ["decode", "1b"]:
    print(json.dumps({"eager_tokens_per_second": 100.0}))
    print(json.dumps({"tokens_per_second": 500.0}), flush=True)
    sys.exit(0)
print(json.dumps({"problem": "PyTorch cannot be imported: no module"}))
sys.exit(77)
"""


class Place:
    """An unpacked suite with pretended programs."""

    def __init__(self, tests, has_gpu=True):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        (self.folder / "tools").mkdir()
        shutil.copy(ROOT / "tools/gpu-suite", self.folder / "tools")
        shutil.copytree(ROOT / "tools/gpusuite", self.folder / "tools/gpusuite")
        manifest = {
            "refused": {
                "1b-train.fb": "LLMC-E1003: training is refused",
                **{
                    f"train_{name}.cuda.fb": "LLMC-E1003: training is refused"
                    for name in pack.TRAININGS
                },
            },
            "decode_kernels_per_layer": {"1b.fb": 7.0},
        }
        (self.folder / "manifest.json").write_text(json.dumps(manifest))
        for folder in ("bin", "plans", "data"):
            (self.folder / folder).mkdir()
        for plan in ("1b.fb", "8b.fb", "8b-prefill.fb"):
            (self.folder / "plans" / plan).write_text("")
        self.program("gpu-ceilings", CEILINGS.replace("SKIP", str(not has_gpu)))
        for name in TESTS:
            self.program(name, GTEST.replace("TESTS", repr(tests[name])))
        self.program("llmrt", LLMRT)
        self.program("python", TORCH)

    def program(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
        path.chmod(0o755)

    def command(self, part, *more):
        return [
            sys.executable,
            str(self.folder / "tools/gpu-suite"),
            part,
            f"--results={self.folder}/gpu-results.json",
            f"--python={self.folder}/bin/python",
            *more,
        ]

    def run(self, part, *more):
        return subprocess.run(
            self.command(part, *more), capture_output=True, text=True, timeout=300
        )

    def results(self, part):
        return json.loads((self.folder / "gpu-results.json").read_text())[part]

    def item(self, part, name):
        [found] = [i for i in self.results(part)["items"] if i["name"] == name]
        return found


TESTS = {
    "device-gpu-test": {"Gpu/DeviceSuite": {"copies/0": "ok"}},
    "kernels-cuda-test": {"CudaLinear": {"few": "ok", "many": "ok"}},
    "communicator-gpu-test": {"Shared/CommunicatorSuite": {"adds/0": "ok"}},
    "plans-gpu-test": {"Families/PlansOnGpu": {"Give/llama2_f32": "ok"}},
}


class GpuSuite(unittest.TestCase):
    def place(self, *arguments, **named):
        place = Place(*arguments, **named)
        self.addCleanup(shutil.rmtree, place.folder)
        return place

    def test_without_a_gpu_everything_is_skipped_with_the_reason(self):
        place = self.place(TESTS, has_gpu=False)
        for part in ("check", "measure"):
            done = place.run(part)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            items = place.results(part)["items"]
            self.assertGreater(len(items), 4)
            for item in items:
                self.assertEqual(item["status"], "skipped", item)
                self.assertEqual(item["reason"], "no GPU/driver: nothing is here")
            self.assertIn(f"{len(items)} skipped", done.stdout.splitlines()[-1])
        self.assertTrue(place.results("check")["is_done"])  # measure left it alone

    def test_tests_become_items_with_the_errors_they_kept(self):
        place = self.place(TESTS)
        done = place.run("check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        linear = place.item("check", "kernels CudaLinear")
        self.assertEqual(linear["status"], "ok")
        self.assertEqual(linear["numbers"], {"passed": 2, "largest_error": 2.5e-7})
        self.assertEqual(place.item("check", "plan llama2_f32")["status"], "ok")
        self.assertEqual(
            place.item("check", "training bf16")["reason"],
            "no plan train_bf16.cuda.fb: LLMC-E1003: training is refused",
        )
        self.assertEqual(place.results("check")["machine"]["gpu"], "Pretended")

    def test_a_failure_is_shown_and_stops_nothing(self):
        tests = dict(TESTS)
        tests["kernels-cuda-test"] = {"A": {"x": "ok", "y": "fail"}, "B": {"z": "ok"}}
        tests["communicator-gpu-test"] = {"Nccl": {"one": "skip"}}
        place = self.place(tests)
        done = place.run("check")
        self.assertEqual(done.returncode, 1)
        failed = place.item("check", "kernels A")
        self.assertEqual(failed["status"], "failed")
        self.assertIn("1 failed, first y: x.cpp:7 expected 1 was 2", failed["reason"])
        self.assertEqual(failed["numbers"]["passed"], 1)
        self.assertEqual(place.item("check", "kernels B")["status"], "ok")
        skipped = place.item("check", "communicator Nccl")
        self.assertEqual(skipped["reason"], "the reason of the test")
        table = done.stdout[done.stdout.index("check: ") :]
        self.assertRegex(table, r"kernels A +failed +1 failed, first y")
        self.assertIn("1 failed", table.splitlines()[-1])

    def test_a_program_without_a_report_has_failed(self):
        place = self.place(TESTS)
        place.program(
            "kernels-cuda-test",
            """
            import os, sys
            if "--gtest_list_tests" in sys.argv:
                print("A.\\n  x")
            else:
                os.abort()
            """,
        )
        self.assertEqual(place.run("check").returncode, 1)
        self.assertIn("signal 6", place.item("check", "kernels A")["reason"])

    def test_a_missing_program_is_a_failure(self):
        place = self.place(TESTS)
        for name in ("gpu-ceilings", "device-gpu-test"):
            (place.folder / "bin" / name).unlink()
        self.assertEqual(place.run("check").returncode, 1)
        self.assertIn("build the target", place.item("check", "device")["reason"])
        self.assertEqual(place.item("check", "kernels CudaLinear")["status"], "ok")

    def test_the_time_budget_is_kept(self):
        tests = dict(TESTS)
        tests["kernels-cuda-test"] = {"Hangs": {"x": "hang"}, "Later": {"x": "ok"}}
        place = self.place(tests)
        # A busy machine may take the shortest time for the list of tests alone.
        for minutes in (0.15, 0.5, 2):
            began = time.monotonic()
            done = place.run("check", f"--minutes={minutes}")
            self.assertLess(time.monotonic() - began, 60 * minutes + 30)
            hangs = place.item("check", "kernels Hangs")
            if hangs["status"] == "failed":
                break
        self.assertEqual(done.returncode, 1)
        self.assertIn("took too long", hangs["reason"])
        later = place.item("check", "kernels Later")
        self.assertEqual(later["status"], "skipped")
        self.assertIn(f"{minutes:g} minutes", later["reason"])

    def test_a_killed_run_leaves_what_it_knew(self):
        tests = dict(TESTS)
        tests["kernels-cuda-test"] = {"A": {"x": "ok"}, "B": {"x": "hang"}}
        place = self.place(tests)
        suite = subprocess.Popen(
            place.command("check"), stdout=subprocess.DEVNULL, start_new_session=True
        )
        ends = time.monotonic() + 60
        state = {}
        while state.get("kernels B") != "running" and time.monotonic() < ends:
            time.sleep(0.05)
            if (place.folder / "gpu-results.json").exists():
                items = place.results("check")["items"]
                state = {i["name"]: i["status"] for i in items}
        os.kill(suite.pid, signal.SIGKILL)
        suite.wait()
        self.assertFalse(place.results("check")["is_done"])
        self.assertEqual(place.item("check", "kernels A")["status"], "ok")
        self.assertEqual(place.item("check", "kernels B")["status"], "running")
        self.assertEqual(place.item("check", "plan llama2_f32")["status"], "not run")
        hanging = ["pgrep", "-f", str(place.folder / "bin/kernels-cuda-test")]
        for pid in subprocess.run(hanging, capture_output=True, text=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)

    def test_measurements_are_compared_with_ceilings_and_pytorch(self):
        place = self.place(TESTS)
        done = place.run("measure", "--only=ceilings,decode,training")
        self.assertEqual(done.returncode, 1, done.stderr)  # 8b fails
        decode = place.item("measure", "decode 1b")["numbers"]
        self.assertAlmostEqual(decode["share_of_ceiling"], 3e12 / 4e12)
        self.assertAlmostEqual(decode["time_to_first_token_seconds"], 0.01024)
        self.assertEqual(decode["kernels_per_layer"], 7.0)
        torch = place.item("measure", "PyTorch decode 1b")["numbers"]
        self.assertEqual(torch["ours_times_pytorch"], 2.0)
        self.assertEqual(torch["eager_tokens_per_second"], 100.0)
        failed = place.item("measure", "decode 8b")
        self.assertIn("LLMC-E0803", failed["reason"])
        self.assertEqual(
            place.item("measure", "PyTorch decode 8b")["reason"],
            "PyTorch cannot be imported: no module",
        )
        self.assertIn(
            "training is refused", place.item("measure", "training step 1b")["reason"]
        )


class FakeSuite:
    """Runs nothing: what llmrt bench would have printed."""

    def __init__(self, contexts):
        self.contexts, self.commands = list(contexts), []

    def program(self, name):
        return name

    def plan(self, name):
        return pathlib.Path(name)

    def run(self, command, seconds):
        self.commands.append([str(part) for part in command])
        report = {"context": self.contexts.pop(0), "benchmarks": []}
        return Done(0, json.dumps(report), "", False)


class Start(unittest.TestCase):
    def test_the_best_of_three_starts_with_weights_from_a_file(self):
        whole = measure.SHAPES["1b"]
        measure.SHAPES["1b"] = {
            "layers": 1, "hidden": 8, "kv": 4, "inner": 16, "vocab": 32
        }  # fmt: skip
        suite = FakeSuite(
            {
                "start_to_prefill_seconds": str(seconds),
                "start_to_first_token_seconds": str(seconds + 0.2),
            }
            for seconds in (1.5, 0.9, 1.1)
        )
        numbers = measure.Known(suite).start(Budget(60, lambda numbers: None))
        measure.SHAPES["1b"] = whole
        self.assertEqual(numbers["start_to_prefill_seconds"], 0.9)
        self.assertEqual(numbers["start_to_first_token_seconds"], 1.1)
        self.assertEqual(len(suite.commands), 3)


class Arithmetic(unittest.TestCase):
    def test_shapes_have_the_published_numbers_of_parameters(self):
        # Meta's model cards: 1.24B and 8.03B.
        norms = lambda s: (2 * s["layers"] + 1) * s["hidden"]  # noqa: E731
        one, eight = measure.SHAPES["1b"], measure.SHAPES["8b"]
        self.assertEqual(sum(measure.matrix_weights("1b")) + norms(one), 1235814400)
        embedding = eight["vocab"] * eight["hidden"]
        self.assertEqual(
            sum(measure.matrix_weights("8b")) + norms(eight) + embedding, 8030261248
        )

    def test_a_checkpoint_is_readable(self):
        small = {"layers": 1, "hidden": 8, "kv": 4, "inner": 16, "vocab": 32}
        measure.SHAPES["small"] = small
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.safetensors"
            measure.write_weights(path, "small")
            data = path.read_bytes()
        del measure.SHAPES["small"]
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        self.assertEqual(header["model.embed_tokens.weight"]["shape"], [32, 8])
        last = max(t["data_offsets"][1] for t in header.values())
        self.assertEqual(len(data), 8 + size + last)

    def test_losses_must_agree_and_repeat(self):
        cpu = [3.0] * 10
        near = [3.0001] * 10
        self.assertIn("first_loss", check.compare_losses(near, cpu, near, 1e-2))
        with self.assertRaisesRegex(Failed, "differ from those of the cpu"):
            check.compare_losses([3.1] * 10, cpu, [3.1] * 10, 1e-2)
        with self.assertRaisesRegex(Failed, "two runs"):
            check.compare_losses(near, cpu, cpu, 1e-2)
        with self.assertRaisesRegex(Failed, "9 and 10 losses"):
            check.compare_losses(near[:9], cpu, near[:9], 1e-2)

    def test_memcheck_tells_a_finding_from_a_refusal(self):
        good = "========= ERROR SUMMARY: 0 errors\n"
        self.assertEqual(check.judge_memcheck(Done(0, good, "", False)), {"errors": 0})
        found = "========= Invalid __global__ write of size 4 bytes\n"
        with self.assertRaisesRegex(Failed, "Invalid __global__ write"):
            check.judge_memcheck(Done(86, found, "", False))
        refused = "========= Error: Device not supported. Check the driver\n"
        with self.assertRaisesRegex(Skipped, "Device not supported"):
            check.judge_memcheck(Done(1, refused, "", False))
        with self.assertRaises(Failed):
            check.judge_memcheck(Done(-11, "", "", False))

    def test_pack_compresses_by_name_and_refuses_what_is_too_large(self):
        with tempfile.TemporaryDirectory() as work:
            folder = pathlib.Path(work) / "gpu-suite"
            folder.mkdir()
            (folder / "file").write_bytes(bytes(1 << 20))
            with contextlib.redirect_stdout(io.StringIO()):
                pack.write_archive(folder, pathlib.Path(work) / "a.tar.xz", 0.5)
                with self.assertRaisesRegex(pack.PackError, "more than 0.5 MiB"):
                    pack.write_archive(folder, pathlib.Path(work) / "a.tar", 0.5)
            with tarfile.open(pathlib.Path(work) / "a.tar.xz") as archive:
                self.assertIn("gpu-suite/file", archive.getnames())
            self.assertFalse((pathlib.Path(work) / "a.tar").exists())

    def test_pack_refuses_libraries_that_a_machine_may_not_have(self):
        pack.refuse_foreign("llmrt", ["libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"])
        for library in ("libabsl_strings.so.20220623", "libmpi.so.40", "libstdc++.so.6"):
            with self.assertRaisesRegex(pack.PackError, library.split(".")[0].replace("+", ".")):
                pack.refuse_foreign("llmrt", ["libc.so.6", library])


if __name__ == "__main__":
    unittest.main()
