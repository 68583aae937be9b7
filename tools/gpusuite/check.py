# SPDX-License-Identifier: Apache-2.0
"""is everything right: kernels, communicators, whole plans, memory"""
import glob
import json
import pathlib
import shutil
import tempfile

from gpusuite.pack import TRAININGS
from gpusuite.results import Failed, Item, Skipped

# What the library multiplies where it is there has a kernel of ours too.
OWN_PRODUCTS = "CudaLinear*.*:CudaFusedLinear.*"
# Attention has other forms on sm_90 than elsewhere.
OWN_ATTENTION = "CudaAttention*.*"
# Small shapes, for a tool that makes everything many times slower.
SANITIZED_KERNELS = (
    "CudaEmbedding.*:CudaRope*.*:CudaKvAppend.*:CudaSelectRows.*:CudaUnstack.*:"
    "CudaLinear.oddReductionsAndStrides:CudaAttention.decodeOfOddHeadsAndGroups:"
    "CudaAttention.manyRows:CudaAttentionRows.hasTheBitsOfAttentionOverACache"
)
SANITIZED_PLANS = "Families/*/llama3_f32:Families/*/llama3_bf16"
SANITIZER_FOUND = 86
# How far each of ten losses may be from that of the cpu, of its size.
TRAINING_BOUNDS = {"f32": 1e-4, "bf16": 1e-2}
TRAINING_STEPS = 10
# What compute-sanitizer says where it is not allowed to work.
REFUSALS = ("not supported", "not permitted", "insufficient", "unable to", "internal error")


def items(suite):
    """Test suites of device, kernels and communicators, plans, losses, then the memory."""
    yield from gtest_items(suite, "device", ["device-gpu-test"], "*", by_suite)
    kernels = ["kernels-cuda-test", "--on-gpu"]
    yield from gtest_items(
        suite, "kernels", kernels, "-CudaEmulation.*:CudaResources.*:WgmmaEmulation.*", by_suite
    )
    yield from gtest_items(
        suite, "communicator", ["communicator-gpu-test"], "*", by_suite
    )
    yield from gtest_items(suite, "plan", ["plans-gpu-test"], "*", by_case, most=180)
    yield Item(
        "kernels without cuBLASLt",
        gtest(suite, [*kernels], OWN_PRODUCTS, {"LLMRT_CUBLASLT_LIBRARY": "off"}),
        5,
    )
    yield Item(
        "kernels without wgmma",
        gtest(suite, [*kernels], OWN_ATTENTION, {"LLMRT_CUDA_WGMMA": "off"}),
        5,
    )
    for name in TRAININGS:
        yield Item(f"training {name}", training(suite, name), 15, 90)
    yield Item("memcheck kernels", memcheck(suite, kernels, SANITIZED_KERNELS), 20, 150)
    yield Item(
        "memcheck plans", memcheck(suite, ["plans-gpu-test"], SANITIZED_PLANS), 20, 150
    )


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


def gtest_items(suite, kind, command, chosen, grouped, most=120):
    """One item for each group of tests that the program lists."""
    try:
        done = suite.run(
            [
                suite.program(command[0]),
                *command[1:],
                "--gtest_list_tests",
                f"--gtest_filter={chosen}",
            ],
            60,
        )
        groups = dict(grouped(s, c) for s, c in listed(done.output))
        problem = done.why(command[0]) if not groups else ""
    except Failed as failed:
        groups, problem = {}, str(failed)
    if not groups:
        yield Item(kind, missing(problem))
    for name, pattern in groups.items():
        yield Item(f"{kind} {name}", gtest(suite, command, pattern), 5, most)


def missing(problem):
    def run(budget):
        raise Failed(problem)

    return run


def gtest(suite, command, pattern, variables=None):
    def run(budget):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.json"
            done = suite.run(
                [
                    *plans_folder(suite, command),
                    *with_variables(variables),
                    suite.program(command[0]),
                    *command[1:],
                    f"--gtest_filter={pattern}",
                    f"--gtest_output=json:{report}",
                ],
                budget.left(),
            )
            try:
                cases = read_report(report)
            except (OSError, ValueError):
                raise Failed(done.why(command[0]))
        return judge(cases, done, command[0])

    return run


def plans_folder(suite, command):
    if command[0] != "plans-gpu-test":
        return []
    return ["env", f"LLMC_GPU_PLANS={suite.folder()}/plans"]


def with_variables(variables):
    return ["env", *(f"{k}={v}" for k, v in variables.items())] if variables else []


def read_report(path):
    report = json.loads(path.read_text())
    return [case for group in report["testsuites"] for case in group["testsuite"]]


def judge(cases, done, name):
    """Numbers of a report: counts, and the errors that the tests kept."""
    skipped = [c for c in cases if c.get("result") == "SKIPPED"]
    failed = [c for c in cases if c.get("failures")]
    numbers = {"passed": len(cases) - len(skipped) - len(failed)}
    if skipped:
        numbers["skipped"] = len(skipped)
    for case in cases:
        for key, value in case.items():
            if is_error(value) and key not in ("time", "line"):
                numbers[key] = max(numbers.get(key, 0.0), float(value))
    if failed:
        text = failed[0]["failures"][0]["failure"]
        what = " ".join(text.split())[:300]
        raise Failed(
            f"{len(failed)} failed, first {failed[0]['name']}: {what}", numbers
        )
    if done.code != 0:
        raise Failed(done.why(name), numbers)
    if cases and len(skipped) == len(cases):
        raise Skipped(skip_reason(skipped[0], done.output))
    return numbers


def is_error(value):
    """Properties that tests record are texts; GoogleTest's own are not numbers."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
        return True
    except ValueError:
        return False


def skip_reason(case, output):
    for message in case.get("skipped", []):
        return " ".join(message.get("message", "").split())
    # GoogleTest before 1.13 keeps the reason out of its report.
    lines = [line.strip() for line in output.splitlines()]
    for before, line in zip(lines, lines[1:]):
        if before.endswith(": Skipped"):
            return line
    return "no reason given"


def losses(suite, plan, budget, folder, name):
    metrics = pathlib.Path(folder) / f"{name}.jsonl"
    data = suite.data()
    done = suite.run(
        [
            suite.program("llmrt"), "run", suite.plan(plan), "--weights=random:1",
            f"--data={data}/data.jsonl", f"--data-cache={folder}", "--quiet",
            f"--tokenizer={data}/tokenizer.json", f"--steps={TRAINING_STEPS}",
            "--learning-rate=1e-3", f"--metrics={metrics}",
        ],
        budget.left(),
    )  # fmt: skip
    if done.code != 0:
        raise Failed(done.why(f"llmrt run {plan}"))
    return [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]


def training(suite, name):
    """Ten losses on the GPU beside those of the cpu, and once more."""
    bound = TRAINING_BOUNDS[name.split("_")[0]]

    def run(budget):
        with tempfile.TemporaryDirectory() as folder:
            plans = [f"train_{name}.{t}.fb" for t in ("cuda", "cpu", "cuda")]
            gpu, cpu, again = [
                losses(suite, plan, budget, folder, i) for i, plan in enumerate(plans)
            ]
        return compare_losses(gpu, cpu, again, bound)

    return run


def compare_losses(gpu, cpu, again, bound):
    if len(gpu) != TRAINING_STEPS or len(cpu) != TRAINING_STEPS:
        raise Failed(f"{len(gpu)} and {len(cpu)} losses of {TRAINING_STEPS}")
    if any(loss is None for loss in gpu + cpu):
        raise Failed("a loss is not finite")
    error = max(abs(a - b) / abs(b) for a, b in zip(gpu, cpu))
    numbers = {"largest_error": error, "first_loss": cpu[0], "last_loss": cpu[-1]}
    if not error < bound:
        raise Failed(f"losses differ from those of the cpu by {error:.3g}", numbers)
    if gpu != again:
        raise Failed("two runs have different losses", numbers)
    return numbers


def sanitizer():
    for path in [
        shutil.which("compute-sanitizer"),
        *glob.glob("/usr/local/cuda*/bin/compute-sanitizer"),
        *glob.glob("/usr/local/cuda*/compute-sanitizer/compute-sanitizer"),
    ]:
        if path:
            return path
    raise Skipped("compute-sanitizer is not installed")


def memcheck(suite, command, pattern):
    def run(budget):
        done = suite.run(
            [
                *plans_folder(suite, command),
                sanitizer(),
                "--tool=memcheck",
                f"--error-exitcode={SANITIZER_FOUND}",
                suite.program(command[0]),
                *command[1:],
                f"--gtest_filter={pattern}",
            ],
            budget.left(),
        )
        return judge_memcheck(done)

    return run


def judge_memcheck(done):
    said = [line for line in done.output.splitlines() if line.startswith("=========")]
    summary = [line for line in said if "ERROR SUMMARY" in line]
    if done.code == 0 and summary:
        return {"errors": 0}
    if done.timed_out:
        raise Failed(done.why("compute-sanitizer"))
    found = [line for line in said if "Invalid" in line or "Uninitialized" in line]
    if found:
        raise Failed(found[0].lstrip("= "))
    for line in said + done.errors.splitlines():
        if any(refusal in line.lower() for refusal in REFUSALS):
            raise Skipped("compute-sanitizer: " + line.lstrip("= "))
    raise Failed(done.why("compute-sanitizer"))
