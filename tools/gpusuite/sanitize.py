# SPDX-License-Identifier: Apache-2.0
"""Items by compute-sanitizer, on small shapes: it makes everything many times slower."""
import glob
import shutil

from gpusuite.gtests import KERNELS, plans_folder
from gpusuite.results import Failed, Item, Skipped

SMALL_KERNELS = (
    "CudaEmbedding.*:CudaRope*.*:CudaKvAppend.*:CudaSelectRows.*:CudaUnstack.*:"
    "CudaLinear.oddReductionsAndStrides:CudaAttention.decodeOfOddHeadsAndGroups:"
    "CudaAttention.manyRows:CudaAttentionRows.hasTheBitsOfAttentionOverACache"
)
# Kernels whose threads share memory and meet at barriers.
KERNELS_WITH_BARRIERS = (
    "CudaAttention.manyRows:CudaAttention.decodeOfOneSequence:"
    "CudaAttentionGradient.oneAndSeveralSequences:CudaSample.normalLogits:"
    "CudaFusedLinear.takesManyRowsWithoutANorm:CudaFusedLinear.hasAllPartsTogether"
)
SMALL_PLANS = "Families/*/llama3_f32:Families/*/llama3_bf16"
FOUND = 86
# What it says where it is not allowed to work.
REFUSALS = ("not supported", "not permitted", "insufficient", "unable to", "internal error")
# Of what it found first: what, where in which kernel, by which thread.
FIRST_LINES = 8


def items(suite):
    plans = ["plans-gpu-test"]
    yield Item("memcheck kernels", sanitized(suite, "memcheck", KERNELS, SMALL_KERNELS), 20, 120)
    for tool in ("racecheck", "synccheck"):
        run = sanitized(suite, tool, KERNELS, KERNELS_WITH_BARRIERS)
        yield Item(f"{tool} kernels", run, 20, 90)
    yield Item("memcheck plans", sanitized(suite, "memcheck", plans, SMALL_PLANS), 20, 120)


def failed_kernels(suite, results):
    """Suites of kernels that failed; one that hung would hang again."""

    def run(budget):
        rows = [r for r in results.items if r["name"].startswith("kernels Cuda")]
        ill = [r for r in rows if r["status"] == "failed" and not r.get("hung")]
        if not ill:
            raise Skipped("no suite of kernels failed")
        names = [row["name"].split()[1] for row in ill]
        return sanitized(suite, "memcheck", KERNELS, ":".join(f"{n}.*" for n in names))(budget)

    return run


def sanitizer():
    for path in [
        shutil.which("compute-sanitizer"),
        *glob.glob("/usr/local/cuda*/bin/compute-sanitizer"),
        *glob.glob("/usr/local/cuda*/compute-sanitizer/compute-sanitizer"),
    ]:
        if path:
            return path
    raise Skipped("compute-sanitizer is not installed")


def sanitized(suite, tool, command, pattern):
    def run(budget):
        done = suite.run(
            [
                sanitizer(),
                f"--tool={tool}",
                f"--error-exitcode={FOUND}",
                # A call that may fail, as a question to the driver, is no error.
                *(["--report-api-errors=no"] if tool == "memcheck" else []),
                suite.program(command[0]),
                *command[1:],
                f"--gtest_filter={pattern}",
            ],
            budget.left(),
            variables=plans_folder(suite, command),
        )
        return judge(done)

    return run


def judge(done):
    said = [line for line in done.output.splitlines() if line.startswith("=========")]
    summary = [line for line in said if "SUMMARY" in line]
    if done.code == 0 and summary:
        return {"errors": 0}
    if done.timed_out:
        raise Failed(done.why("compute-sanitizer"), hung=True)
    for i, line in enumerate(said):
        if any(word in line for word in ("Invalid", "Uninitialized", "Race", "Barrier")):
            raise Failed(" | ".join(l.lstrip("= ") for l in said[i : i + FIRST_LINES]))
    for line in said + done.errors.splitlines():
        if any(refusal in line.lower() for refusal in REFUSALS):
            raise Skipped("compute-sanitizer: " + line.lstrip("= "))
    raise Failed(done.why("compute-sanitizer"))
