# SPDX-License-Identifier: Apache-2.0
"""is everything right: kernels, communicators, whole plans, losses, memory"""
import json
import pathlib
import tempfile

from gpusuite import gtests, parity, sanitize
from gpusuite.gtests import KERNELS, by_case, by_suite, gtest
from gpusuite.plans import TRAININGS
from gpusuite.results import Failed, Item

# What the library multiplies where it is there has a kernel of ours too.
OWN_PRODUCTS = "CudaLinear*.*:CudaFusedLinear.*"
# Attention has other forms on sm_90 than elsewhere.
OWN_ATTENTION = "CudaAttention*.*"
WITHOUT_LIBRARY = {"LLMRT_CUBLASLT_LIBRARY": "off"}
WITHOUT_WGMMA = {"LLMRT_CUDA_WGMMA": "off"}
# Which half is ill, when plans hang.
VARIANTS = {"without wgmma": WITHOUT_WGMMA, "without cuBLASLt": WITHOUT_LIBRARY}
# Ranks that are threads wait for each other on the GPU: no kernel may be loaded while
# another waits, and each stream needs a queue of its own.
SHARED = {"CUDA_MODULE_LOADING": "EAGER", "CUDA_DEVICE_MAX_CONNECTIONS": "32"}
# How far each of ten losses, and each norm of the gradients, may be from that of the
# cpu, of its size. Norms move more, as tests/e2e/EmulatedCudaTrainingTest.cpp says.
TRAINING_BOUNDS = {"f32": (1e-4, 5e-4), "bf16": (1e-2, 2e-2)}
TRAINING_STEPS = 10


def items(suite, results):
    """What the rest stands on comes first."""
    yield from gtests.items(suite, "device", ["device-gpu-test"], "*", by_suite, 30)
    yield from gtests.items(
        suite, "kernels", KERNELS, "-CudaEmulation.*:CudaResources.*:WgmmaEmulation.*",
        by_suite, 30,
    )  # fmt: skip
    yield Item(
        "kernels without wgmma", gtest(suite, KERNELS, OWN_ATTENTION, WITHOUT_WGMMA), 5, 30
    )
    yield Item(
        "kernels without cuBLASLt", gtest(suite, KERNELS, OWN_PRODUCTS, WITHOUT_LIBRARY), 5, 30
    )
    yield Item("memcheck failed kernels", sanitize.failed_kernels(suite, results), 10, 60)
    yield from gtests.items(
        suite, "plan", ["plans-gpu-test"], "*", by_case, 20, variants=VARIANTS
    )
    yield from gtests.items(
        suite, "communicator", ["communicator-gpu-test"], "*", by_suite, 60, SHARED
    )
    for name in TRAININGS:
        yield Item(
            f"training {name}",
            training(suite, name),
            15,
            40,
            "training",
            [(what, training(suite, name, v)) for what, v in VARIANTS.items()],
        )
    yield from parity.items(suite)
    yield from sanitize.items(suite)


def training_run(suite, plan, budget, folder, name, variables, steps=TRAINING_STEPS):
    """(losses, norms of the gradients) of the steps."""
    metrics = pathlib.Path(folder) / f"{name}.jsonl"
    data = suite.data()
    done = suite.run(
        [
            suite.program("llmrt"), "run", suite.plan(plan), "--weights=random:1",
            f"--data={data}/data.jsonl", f"--data-cache={folder}", "--quiet",
            f"--tokenizer={data}/tokenizer.json", f"--steps={steps}",
            "--learning-rate=1e-3", f"--metrics={metrics}",
        ],
        budget.left(),
        variables=variables,
    )  # fmt: skip
    if done.code != 0:
        raise Failed(done.why(f"llmrt run {plan}"), hung=done.timed_out)
    steps = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [s["loss"] for s in steps], [s["grad_norm"] for s in steps]


def training(suite, name, variables=None):
    """Ten steps on the GPU beside those of the cpu, and once more."""
    bounds = TRAINING_BOUNDS[name.split("_")[0]]
    # Ranks choose algorithms for products in bf16 side by side, each for itself; what
    # they leave in the cache, all later runs use.
    must_tune_first = name.startswith("bf16_")

    def run(budget):
        with tempfile.TemporaryDirectory() as folder:
            if must_tune_first:
                training_run(
                    suite, f"train_{name}.cuda.fb", budget, folder, "tuned", variables, 1
                )
            plans = [f"train_{name}.{t}.fb" for t in ("cuda", "cpu", "cuda")]
            gpu, cpu, again = [
                training_run(suite, plan, budget, folder, i, variables)
                for i, plan in enumerate(plans)
            ]
        return compare_steps(gpu, cpu, again, bounds)

    return run


def compare_steps(gpu, cpu, again, bounds):
    """Each is (losses, norms)."""
    numbers, problems = {}, []
    for what, ours, theirs, bound in zip(("losses", "norms"), gpu, cpu, bounds):
        if len(ours) != TRAINING_STEPS or len(theirs) != TRAINING_STEPS:
            raise Failed(f"{len(ours)} and {len(theirs)} {what} of {TRAINING_STEPS}")
        if any(value is None for value in ours + theirs):
            raise Failed(f"one of the {what} is not finite: {ours}, of the cpu {theirs}")
        errors = [abs(a - b) / abs(b) for a, b in zip(ours, theirs)]
        numbers[f"largest_error_of_{what}"] = max(errors)
        if not max(errors) < bound:
            step = next(i for i, error in enumerate(errors) if not error < bound)
            problems.append(
                f"{what} differ from those of the cpu by {max(errors):.3g}, first in step "
                f"{step}: {ours[step]:.6g}, of the cpu {theirs[step]:.6g}"
            )
    numbers.update(first_loss=cpu[0][0], last_loss=cpu[0][-1])
    if gpu != again:
        both = zip(zip(*gpu), zip(*again))
        step = next((i for i, (a, b) in enumerate(both) if a != b), TRAINING_STEPS)
        problems.append(f"two runs have different losses or norms, first in step {step}")
    if problems:
        raise Failed("; ".join(problems), numbers)
    return numbers
