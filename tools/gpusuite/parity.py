# SPDX-License-Identifier: Apache-2.0
"""A model of a real size on the GPU and on the cpu: long reductions, a vocabulary of
128256, grids that fill the GPU, of which the small models of `plan` have nothing. Scores
of random tokens by the same random weights."""
import array
import ast
import math
import pathlib
import struct
import tempfile

from gpusuite.results import Failed, Item

LAYERS = 16
# tests/e2e/CudaParity.cpp derives it: per layer ten roundings to 2^-9 of what the tensor
# cores multiply and what the caches hold, and one more, which add up as squares; a
# softmax doubles them.
BOUND = 2 * math.sqrt((10 * LAYERS + 1) / 3) * 2.0**-9
NUM_TOKENS = 24
TOKENS = ",".join(str((7919 * i + 13) % 128256) for i in range(NUM_TOKENS))
# The entry: all tokens in one call, or one after the other.
ENTRIES = {"prefill": "score", "decode": "decode"}


def items(suite):
    for name, entry in ENTRIES.items():
        yield Item(f"parity 1b {name}", parity(suite, entry), 30, 90)


def parity(suite, entry):
    def run(budget):
        with tempfile.TemporaryDirectory() as folder:
            gpu, plain, cpu = [
                scores(suite, plan, entry, more, pathlib.Path(folder) / f"{i}.npy", budget)
                for i, (plan, more) in enumerate(
                    (("1b.fb", []), ("1b.fb", ["--graphs=off"]), ("1b-cpu.fb", []))
                )
            ]
            return compare(gpu, plain, cpu)

    return run


def scores(suite, plan, entry, more, path, budget):
    done = suite.run(
        [
            suite.program("llmrt"), "run", suite.plan(plan), "--weights=random:1", "--quiet",
            f"--tokens={TOKENS}", f"--logits-entry={entry}", f"--output-logits={path}", *more,
        ],
        budget.left(),
    )  # fmt: skip
    if done.code != 0:
        raise Failed(done.why(f"llmrt run {plan}"), hung=done.timed_out)
    return path


def compare(gpu, plain, cpu):
    """Files of scores: with graphs, without, of the cpu."""
    ours, theirs = read_rows(gpu), read_rows(cpu)
    if [len(row) for row in ours] != [len(row) for row in theirs]:
        raise Failed(f"{len(ours)} rows of scores, of the cpu {len(theirs)}")
    errors = [row_error(a, b) for a, b in zip(ours, theirs)]
    error = math.sqrt(sum(e for e, _ in errors) / sum(s for _, s in errors))
    numbers = {"largest_error": error, "bound": BOUND}
    if not error < BOUND:
        rows = [round(math.sqrt(e / s), 5) for e, s in errors]
        raise Failed(
            f"scores differ from those of the cpu by {error:.3g}, by row {rows}; the first "
            f"are {list(ours[0][:4])}, of the cpu {list(theirs[0][:4])}",
            numbers,
        )
    if gpu.read_bytes() != plain.read_bytes():
        raise Failed("other bits with --graphs=off", numbers)
    return numbers


def row_error(a, b):
    """Squares of the difference and of the size."""
    return sum((x - y) ** 2 for x, y in zip(a, b)), sum(y * y for y in b)


def read_rows(path):
    """Rows of a float32 .npy file of two dimensions, format 1.0."""
    data = path.read_bytes()
    size = struct.unpack_from("<H", data, 8)[0]
    header = ast.literal_eval(data[10 : 10 + size].decode())
    if header["descr"] != "<f4" or header["fortran_order"] or len(header["shape"]) != 2:
        raise Failed(f"{path.name}: {header}")
    values = array.array("f", data[10 + size :])
    width = header["shape"][1]
    return [values[i : i + width] for i in range(0, len(values), width)]
