#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/gpu-suite with programs that only pretend: what it keeps, when it ends, what it
says. The real programs have tests of their own. More than 500 lines: cases of one
program over the same pretended ones."""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import shutil
import signal
import struct
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

from gpusuite import check, gtests, measure, pack, parity, plans, results, sanitize  # noqa: E402
from gpusuite import text, training  # noqa: E402
from gpusuite.processes import Done, last_test, run_program  # noqa: E402
from gpusuite.results import Budget, Failed, Skipped  # noqa: E402
from gpusuite.suite import Suite  # noqa: E402

CEILINGS = """
import json, pathlib, sys
if SKIP:
    print(json.dumps({"skipped": "no GPU/driver: nothing is here"}))
    sys.exit(77)
starting = pathlib.Path(sys.argv[0]).with_name("starting")
if starting.exists():
    starting.unlink()
    sys.exit("CUDA: system not yet initialized (802)")
if "--probe" in sys.argv:
    print(json.dumps({"gpu": "Pretended", "architecture": 90}))
else:
    print(json.dumps({"read_bytes_per_second": 4e12, "copy_bytes_per_second": 3e12,
                      "bf16_flops_per_second": 8e14, "matrix_library": "none"}))
"""

# TESTS: {suite: {case: "ok" | "skip" | "fail" | "hang" | "hang with wgmma"}}
GTEST = """
import fnmatch, json, os, sys, time
print("random inputs: --seed=4711")
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
        print("[ RUN      ] " + suite + "." + case, flush=True)
        if end == "hang" or (end[:5] == "hang " and "LLMRT_CUDA_WGMMA" not in os.environ):
            print("a warning", file=sys.stderr, flush=True)
            time.sleep(1000)
        row = {"name": case, "result": "COMPLETED", "time": "0.1s"}
        if end == "skip":
            row["result"] = "SKIPPED"
            print("x.cpp:1: Skipped\\nthe reason of the test\\n")
        elif end == "fail":
            print("wrong: 3 of 8 elements, first 5")
            row["failures"] = [{"failure": "x.cpp:7 expected 1 was 2"}]
            code = 1
        else:
            row["largest_error"] = "2.5e-07"
        print("[       OK ] " + suite + "." + case)
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
         "best_tokens_per_second": 1100.0, "cpu_time": 0.2, "weight_bytes_per_token": 2.5e9,
         "cache_bytes_per_token": 5e8}]
print(json.dumps({"context": {"start_to_prefill_seconds": "0.9",
                              "start_to_first_token_seconds": "1.1"},
                  "benchmarks": rows}))
"""

TORCH = """
import json, sys
if sys.argv[2:4] == ["decode", "1b"]:
    print(json.dumps({"eager_tokens_per_second": 100.0}))
    print(json.dumps({"tokens_per_second": 500.0, "cudagraph_skips": SKIPS}), flush=True)
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
                    for name in plans.TRAININGS
                },
                **{f"text_{name}.cuda.fb": "LLMC-E1003: refused" for name in plans.TEXTS},
                "1b-cpu.fb": "LLMC-E1003: not compiled here",
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
        self.program("python", TORCH.replace("SKIPS", "0"))

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
        log = (place.folder / "gpu-results.check.log").read_text()
        self.assertRegex(log, r"== kernels CudaLinear\n\$ .*--on-gpu --gtest_filter=CudaLinear")
        self.assertIn("status 0, ", log)
        self.assertIn("[       OK ] CudaLinear.many", log)
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
        self.assertIn("1 failed: y; first: x.cpp:7 expected 1 was 2", failed["reason"])
        self.assertIn("3 of 8 elements, first 5", failed["reason"])
        self.assertEqual(failed["numbers"]["passed"], 1)
        self.assertEqual(failed["numbers"]["seed"], 4711)
        self.assertEqual(place.item("check", "kernels B")["status"], "ok")
        skipped = place.item("check", "communicator Nccl")
        self.assertEqual(skipped["reason"], "the reason of the test")
        table = done.stdout[done.stdout.index("check: ") :]
        self.assertRegex(table, r"kernels A +failed +1 failed: y; first")
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
        self.assertIn("[ RUN      ] Hangs.x", hangs["reason"])
        self.assertIn("a warning", hangs["reason"])
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

    def test_pytorch_without_captured_graphs_is_no_comparison(self):
        place = self.place(TESTS)
        place.program("python", TORCH.replace("SKIPS", "1"))
        self.assertEqual(place.run("measure", "--only=decode 1b").returncode, 1)
        torch = place.item("measure", "PyTorch decode 1b")
        self.assertEqual(torch["status"], "failed")
        self.assertIn("did not capture", torch["reason"])
        self.assertNotIn("ours_times_pytorch", torch["numbers"])

    def test_only_keeps_the_other_items_and_knows_the_ceilings(self):
        place = self.place(TESTS)
        place.run("measure", "--only=ceilings,decode 8b")
        done = place.run("measure", "--only=decode 1b without")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        decode = place.item("measure", "decode 1b without graphs")["numbers"]
        self.assertAlmostEqual(decode["share_of_ceiling"], 3e12 / 4e12)
        ceilings = place.item("measure", "ceilings")
        self.assertEqual(decode["ceiling_of"], ceilings["at"])
        self.assertEqual(place.item("measure", "decode 8b")["status"], "failed")
        self.assertIn("other items of earlier runs", done.stdout)
        place.program("gpu-ceilings", CEILINGS.replace("SKIP", "False").replace("Pre", "Un"))
        place.run("measure", "--only=decode 1b without")  # another GPU: nothing is comparable
        names = [i["name"] for i in place.results("measure")["items"]]
        self.assertNotIn("ceilings", names)

    def test_a_driver_that_is_still_starting_is_waited_for(self):
        place = self.place(TESTS)
        (place.folder / "bin/starting").write_text("")
        self.assertEqual(place.run("check", "--only=device").returncode, 0)
        self.assertEqual(place.item("check", "device Gpu/DeviceSuite")["status"], "ok")

    def test_a_gpu_can_be_required(self):
        place = self.place(TESTS, has_gpu=False)
        self.assertEqual(place.run("check", "--require-gpu").returncode, 1)

    def test_cases_of_an_ill_suite_run_one_by_one(self):
        tests = dict(TESTS)
        tests["kernels-cuda-test"] = {"A": {"x": "ok", "y": "fail", "z": "fail"}}
        place = self.place(tests)
        place.run("check", "--only=kernels A")
        self.assertIn(
            "each by itself: y fails, z fails", place.item("check", "kernels A")["reason"]
        )

    def test_after_two_hangs_the_rest_of_the_kind_is_not_tried(self):
        cases = {f"Give/{name}": "hang with wgmma" for name in "abcd"}
        command = ["kernels-cuda-test"]
        suite = Runner(self.place({**TESTS, "kernels-cuda-test": {"S": cases}}).folder)
        items = gtests.items(
            suite, "plan", command, "*", gtests.by_case, 3, variants=check.VARIANTS
        )
        part = results.Results(suite.folder / "r.json", "check", 1)
        with contextlib.redirect_stdout(io.StringIO()):
            part.run(items, suite)
        status = {r["name"]: (r["status"], r.get("reason", "")) for r in part.items}
        self.assertEqual(status["plan a"][0], "failed")
        self.assertIn("took too long", status["plan b"][1])
        self.assertEqual(status["plan b without wgmma"][0], "ok")
        self.assertEqual(status["plan b without cuBLASLt"][0], "failed")
        self.assertEqual(status["plan c"], ("skipped", "plan a and plan b hung"))

    def test_every_model_of_a_plan_is_packed(self):
        program = ROOT / "build/release/bin/plans-gpu-test"
        if not program.is_file():
            self.skipTest(f"there is no {program}")
        with tempfile.TemporaryDirectory() as folder:
            pack.copy_sources(ROOT, pathlib.Path(folder))
            for name, model, _ in plans.listed_plans(program.parent):
                if name.startswith(pack.STORIES):
                    stories = pathlib.Path(folder) / "data" / pack.STORIES
                    self.assertTrue((stories / "hf/model.safetensors").is_file())
                    self.assertTrue(all((stories / n).is_file() for n in pack.GOLDEN_STORY))
                    continue
                packed = pathlib.Path(folder) / model
                self.assertTrue(packed.exists(), f"{model} of {name}")
                beside = packed if packed.is_dir() else packed.parent
                self.assertTrue((beside / "tokens.json").is_file(), beside)

    def test_plans_that_would_be_the_same_are_not_compiled_again(self):
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            llmc = work / "llmc"
            llmc.write_text(
                f"#!{sys.executable}\nimport sys\n"
                f"open({str(work / 'calls')!r}, 'a').write(sys.argv[1] + '\\n')\n"
                "open(sys.argv[sys.argv.index('-o') + 1], 'w').write('a plan')\n"
            )
            llmc.chmod(0o755)

            def compiled(options, old):
                (work / "calls").write_text("")
                folder = pathlib.Path(tempfile.mkdtemp(dir=work)) / "plans"
                folder.mkdir()
                compiler = plans.Compiler(llmc, folder, old)
                with contextlib.redirect_stdout(io.StringIO()):
                    compiler.plan("a.fb", "llama,layers=1", options)
                    manifest = compiler.manifest()
                (folder.parent / "manifest.json").write_text(json.dumps(manifest))
                self.assertEqual((folder / "a.fb").read_text(), "a plan")
                return folder.parent, (work / "calls").read_text().split()

            first, calls = compiled("--dtype=f32", None)
            self.assertEqual(calls, ["import", "compile"])
            self.assertEqual(compiled("--dtype=f32", first)[1], [])
            self.assertEqual(compiled("--dtype=bf16", first)[1], ["import", "compile"])
            llmc.write_text(llmc.read_text() + "# another compiler\n")
            self.assertEqual(compiled("--dtype=f32", first)[1], ["import", "compile"])


class Runner:
    """A suite of one program."""

    def __init__(self, folder):
        self.folder = folder
        self.log = self

    def begin(self, item):
        pass

    def gpu_state(self):
        return {}

    def machine(self):
        return {}, None

    def program(self, name):
        return self.folder / "bin" / name

    def run(self, command, seconds, variables=None):
        environment = {**os.environ, **(variables or {})}
        return run_program(command, seconds, None, environment)


class FakeSuite:
    """Runs nothing: what llmrt bench would have printed."""

    def __init__(self, contexts):
        self.contexts, self.commands = list(contexts), []
        self.device, self.held = self, []  # as each command finds it

    def hold(self):
        self.is_held = True

    def release(self):
        self.is_held = False

    def program(self, name):
        return name

    def plan(self, name):
        return pathlib.Path(name)

    def run(self, command, seconds):
        self.commands.append([str(part) for part in command])
        self.held.append(self.is_held)
        report = {"context": self.contexts.pop(0), "benchmarks": []}
        return Done(0, json.dumps(report), "", False, 2.5)


@unittest.skipUnless(
    (ROOT / "build/release/bin/llmc").is_file(), "the compiler is not built in build/release"
)
class OnTheCpu(unittest.TestCase):
    """The items that run llmrt on small models, with plans for the cpu in the place of
    those for cuda: their command lines, data and comparisons are real."""

    TRAININGS = (
        "f32", "f32_microbatches_clip", "f32_sft", "bf16_dpo_precompute", "f32_dp2_zero2_sft",
        "f32_pp2_interleaved", "f32_pp2_dp2_dpo",
    )  # fmt: skip

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        programs = ROOT / "build/release/bin"
        (cls.folder / "plans").mkdir()
        pack.make_data(ROOT, cls.folder / "data")
        compiler = plans.Compiler(programs / "llmc", cls.folder / "plans")
        trained, texts = plans.TRAININGS, plans.TEXTS
        plans.TRAININGS = {name: trained[name] for name in (*cls.TRAININGS, "bf16")}
        plans.TEXTS = {name: texts[name] for name in ("f32", "f32_tp2")}
        options = plans.training_options, plans.text_options
        on_cpu = lambda made: lambda target, own: made("cpu", own)  # noqa: E731
        plans.training_options, plans.text_options = map(on_cpu, options)
        try:
            plans.compile_trainings(compiler)
            plans.compile_texts(compiler, programs / "llmrt")
        finally:
            plans.TRAININGS, plans.TEXTS = trained, texts
            plans.training_options, plans.text_options = options
        (cls.folder / "manifest.json").write_text(json.dumps({"refused": compiler.refused}))
        cls.suite = Suite(
            cls.folder,
            argparse.Namespace(
                bin=str(programs), results=str(cls.folder / "r.json"), command="check",
                only=None, python=sys.executable, llmc=None,
            ),
        )  # fmt: skip

    def numbers(self, run):
        return run(Budget(120, lambda numbers: None))

    def test_every_kind_of_training_runs_and_repeats(self):
        compared = {}
        for name in self.TRAININGS:
            with self.subTest(name):
                numbers = self.numbers(training.training(self.suite, name))
                self.assertEqual(numbers["largest_error_of_losses"], 0)
                self.assertNotEqual(numbers["last_loss"], numbers["first_loss"])
                compared[name] = sorted(numbers)
        self.assertIn("largest_error_of_losses_of_evaluations", compared["f32_sft"])
        for name in ("bf16_dpo_precompute", "f32_pp2_dp2_dpo"):
            self.assertIn("largest_error_of_rewards_of_chosen", compared[name])

    def test_a_plan_that_computes_something_else_fails(self):
        folder = self.folder / "plans"
        kept = (folder / "train_f32.cuda.fb").read_bytes()
        shutil.copy(folder / "train_bf16.cpu.fb", folder / "train_f32.cuda.fb")
        try:
            with self.assertRaisesRegex(Failed, "differ from those of the cpu"):
                self.numbers(training.training(self.suite, "f32"))
        finally:
            (folder / "train_f32.cuda.fb").write_bytes(kept)

    def test_stopped_runs_are_resumed(self):
        for name in ("f32_pp2_interleaved", "f32_dp2_zero2_sft"):
            with self.subTest(name):
                numbers = self.numbers(training.resume(self.suite, name))
                self.assertEqual(numbers["largest_error_of_norms"], 0)

    def test_texts_are_those_of_one_rank(self):
        for name in ("f32", "f32_tp2"):
            with self.subTest(name):
                numbers = self.numbers(text.generate(self.suite, name))
                self.assertGreater(numbers["tokens"], 100)
        # It has learned something: prompts go on differently, in words.
        lines = text.Generator(self.suite, Budget(60, None), self.folder).texts("text_f32.cpu.fb")
        completions = {line["completion"] for line in lines}
        self.assertGreater(len(completions), 6, lines)
        self.assertTrue(any(" the " in completion for completion in completions), lines)


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
            for seconds in (4.0, 1.5, 0.9, 1.1)
        )
        known = measure.Known(suite, results.Results("unused", "measure", 1))
        numbers = known.start(Budget(60, lambda numbers: None))
        measure.SHAPES["1b"] = whole
        self.assertEqual(numbers["cold_start_to_prefill_seconds"], 4.0)
        self.assertEqual(numbers["start_to_prefill_seconds"], 0.9)
        self.assertEqual(numbers["start_to_first_token_seconds"], 1.1)
        self.assertEqual(numbers["process_seconds"], 2.5)
        self.assertEqual(suite.held, [False, True, True, True])


class Torch(unittest.TestCase):
    """The competitor itself, where this Python has PyTorch."""

    def test_its_model_decodes_as_it_scores(self):
        if importlib.util.find_spec("torch") is None:
            self.skipTest("PyTorch is not installed")
        command = [sys.executable, measure.TORCH, "decode", "tiny", "--device=cpu", "--no-compile"]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertFalse([line for line in said if "problem" in line])
        self.assertGreater(said[-1]["tokens_per_second"], 0)


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

    def test_losses_and_norms_must_agree_and_repeat(self):
        bounds = (1e-2, 2e-2)
        steps = lambda loss, norm=1.0: {"losses": [loss] * 10, "norms": [norm] * 10}  # noqa: E731
        cpu, near = steps(3.0), steps(3.0001)
        self.assertIn("first_loss", training.compare(near, cpu, near, bounds))
        for gpu, again, said in (
            (steps(3.1), steps(3.1), "losses differ.* first in step 0: 3.1"),
            (steps(3.0, 1.05), steps(3.0, 1.05), "norms differ from those of the cpu by 0.05"),
            (near, cpu, "two runs: other losses, first in step 0"),
            ({**near, "losses": near["losses"][:9]}, near, "9 and 10 losses of 10"),
            (steps(None), near, "not finite"),
            (steps(float("nan")), near, "losses differ"),
            ({**near, "rewards of chosen": [0.0] * 10}, near, "reports of"),
        ):
            with self.assertRaisesRegex(Failed, said):
                training.compare(gpu, cpu, again, bounds)
        # A reward is a difference of sums, and may be 0.
        rewarded = lambda reward: {**cpu, "rewards of chosen": [reward] * 10}  # noqa: E731
        training.compare(rewarded(1e-5), rewarded(0.0), rewarded(1e-5), bounds)
        with self.assertRaisesRegex(Failed, "rewards of chosen differ"):
            training.compare(rewarded(1.0), rewarded(0.0), rewarded(1.0), bounds)

    def test_a_resumed_run_has_the_bits_of_a_straight_one(self):
        bounds = (1e-2, 2e-2)
        losses = [3.0 - 0.1 * i for i in range(10)]
        straight = {"losses": losses, "norms": [1.0] * 10}
        latter = {what: values[5:] for what, values in straight.items()}
        training.compare_resumed(straight, straight, latter, bounds)
        moved = {**straight, "losses": losses[:7] + [2.30001] + losses[8:]}
        with self.assertRaisesRegex(Failed, "stopped and resumed: other losses.* step 7"):
            training.compare_resumed(straight, moved, latter, bounds)
        lost = {"losses": losses[:5], "norms": [1.0] * 5}  # begun anew
        with self.assertRaisesRegex(Failed, "first in step 5"):
            training.compare_resumed(straight, straight, lost, bounds)
        with self.assertRaisesRegex(Failed, "10 and 15 losses"):
            training.compare_resumed(straight, straight, straight, bounds)

    def test_texts_must_be_the_same(self):
        lines = [{"tokens": [i]} for i in range(len(text.NEW_TOKENS))]
        text.expect_same(lines, list(lines), "of the cpu")
        with self.assertRaisesRegex(Failed, "1 of 9 prompts .* line 4: .*of the cpu .'tokens': .7"):
            text.expect_same(lines, lines[:3] + [{"tokens": [7]}] + lines[4:], "of the cpu")
        with self.assertRaisesRegex(Failed, "9 and, of the cpu, 8 lines of 9"):
            text.expect_same(lines, lines[:-1], "of the cpu")

    def test_compute_sanitizer_a_finding_and_a_refusal_are_told_apart(self):
        good = "========= ERROR SUMMARY: 0 errors\n"
        self.assertEqual(sanitize.judge(Done(0, good, "", False)), {"errors": 0})
        races = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
        self.assertEqual(sanitize.judge(Done(0, races, "", False)), {"errors": 0})
        found = (
            "========= COMPUTE-SANITIZER\n"
            "========= Invalid __global__ write of size 4 bytes\n"
            "=========     at embedding+0x50 in Embedding.cu:17\n"
            "=========     by thread (3,0,0) in block (7,0,0)\n"
        )
        with self.assertRaisesRegex(Failed, "Invalid .* Embedding.cu:17 .* thread .3,0,0"):
            sanitize.judge(Done(86, found, "", False))
        refused = "========= Error: Device not supported. Check the driver\n"
        with self.assertRaisesRegex(Skipped, "Device not supported"):
            sanitize.judge(Done(1, refused, "", False))
        with self.assertRaises(Failed):
            sanitize.judge(Done(-11, "", "", False))

    def test_numbers_of_a_test_are_its_properties(self):
        case = {"name": "x", "value_param": "7", "time": "0.5", "largest_error": "nan"}
        row = gtests.judge([case], Done(0, "", "", False), "program")
        self.assertEqual(sorted(row), ["largest_error", "passed"])
        kept = results.finite({"name": "x", "numbers": row})["numbers"]
        self.assertEqual(kept["largest_error"], "nan")  # and not 0

    def test_the_test_that_did_not_end_is_known(self):
        ended = "[ RUN      ] A.x\n[       OK ] A.x (1 ms)\n"
        self.assertEqual(last_test(ended), "")
        self.assertEqual(last_test(ended + "[ RUN      ] A.y\nsays\n"), "[ RUN      ] A.y")

    def test_a_large_model_is_compared_row_by_row(self):
        def file(folder, name, values):
            header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
            header += " " * (117 - len(header)) + "\n"
            path = pathlib.Path(folder) / name
            path.write_bytes(
                b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode()
                + struct.pack("<6f", *values)
            )  # fmt: skip
            return path

        with tempfile.TemporaryDirectory() as folder:
            cpu = file(folder, "cpu", [1, 2, 3, 4, 5, 6])
            near = file(folder, "near", [1, 2, 3, 4, 5, 6.01])
            far = file(folder, "far", [1, 2, 3, 4, 5, 7])
            self.assertLess(parity.compare(near, near, cpu)["largest_error"], 2e-3)
            with self.assertRaisesRegex(Failed, r"by row \[0.0, 0.11396\]"):
                parity.compare(far, far, cpu)
            with self.assertRaisesRegex(Failed, "other bits with --graphs=off"):
                parity.compare(near, cpu, cpu)
            nan = file(folder, "nan", [1, 2, 3, 4, float("nan"), 6])
            with self.assertRaisesRegex(Failed, "scores differ"):
                parity.compare(nan, nan, cpu)

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
