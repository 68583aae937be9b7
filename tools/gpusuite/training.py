# SPDX-License-Identifier: Apache-2.0
"""Ten training steps on the GPU beside those of the cpu, of each objective and on meshes
whose ranks share the GPU; and steps that were stopped and resumed."""
import collections
import json
import math
import pathlib
import re
import shutil
import tempfile

from gpusuite.plans import RESUMED, TRAININGS
from gpusuite.results import Failed, Item

STEPS, STEPS_BEFORE_STOP = 10, 5
# How far each loss, and each norm of the gradients, may be from that of the cpu, of its
# size. Sums in another order (two tensor ranks, on the cpu) move ten losses by 4e-7 and
# norms by 7e-7; weights in bf16 by 2e-3, and a GPU rounds inputs of products besides.
BOUNDS = {"f32": (2e-5, 1e-4), "bf16": (1e-2, 2e-2)}
# Of pairs in bf16: a loss of 0.4 and more is as far off as beta times sums over 30 tokens,
# each of which rounding moves by some 5e-3, and so is the weight of a pair's gradient. Four
# steps of a small model on the emulated device are 2e-3 and 6e-3 away.
BOUNDS_OF_BF16_PAIRS = (4e-2, 4e-2)
# A reward is beta times a difference of sums of losses over the tokens of an answer, and
# is off by as much as the sums: this times the bound of losses.
SIZE_OF_REWARDS = 0.1 * 64 * math.log(512)
# The data of each objective.
DATA = {"pretrain": "data.jsonl", "sft": "sft.jsonl", "dpo": "pairs.jsonl"}


def items(suite, variants):
    """`variants`: {what is different: variables} for when the kind hangs."""
    for name in TRAININGS:
        tried = [(what, training(suite, name, v)) for what, v in variants.items()]
        yield Item(f"training {name}", training(suite, name), 15, 40, "training", tried)
    for name in RESUMED:
        yield Item(f"resume {name}", resume(suite, name), 15, 40, "training")


class Runs:
    """Runs of the plans of a case. Each has its own token file, so that what one computes
    for it, as losses of the reference, is not what another finds."""

    def __init__(self, suite, name, budget, folder, variables=None):
        self.suite, self.name, self.budget = suite, name, budget
        self.case, self.variables = TRAININGS[name], variables
        self.folder, self.data = pathlib.Path(folder), suite.data()

    def steps(self, target, run, *more, steps=STEPS):
        """What the steps reported: {"losses": [...], "norms": [...], ...}."""
        plan = f"train_{self.name}.{target}.fb"
        folder = self.folder / run
        folder.mkdir(exist_ok=True)
        done = self.suite.run(
            [
                self.suite.program("llmrt"), "run", self.suite.plan(plan),
                "--weights=random:1", f"--data={self.data}/{DATA[self.case.objective()]}",
                f"--data-cache={folder}", f"--tokenizer={self.data}/tokenizer.json",
                f"--steps={steps}", "--learning-rate=1e-3", "--quiet",
                f"--metrics={folder}/metrics.jsonl", *more,
            ],
            self.budget.left(),
            variables=self.variables,
        )  # fmt: skip
        if done.code != 0:
            raise Failed(done.why(f"llmrt run {plan}"), hung=done.timed_out)
        return read_metrics(folder / "metrics.jsonl")

    def tune(self, *more):
        """Ranks choose algorithms for products in bf16 side by side, each for itself; what
        they leave in the cache, all later runs use."""
        if self.case.dtype() == "bf16":
            self.steps("cuda", "tuned", *more, steps=1)


def read_metrics(path):
    values = collections.defaultdict(list)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "evaluation" in row:
            values["losses of evaluations"].append(row["loss"])
            continue
        values["losses"].append(row["loss"])
        values["norms"].append(row["grad_norm"])
        for side in ("chosen", "rejected"):
            if f"rewards/{side}" in row:
                values[f"rewards of {side}"].append(row[f"rewards/{side}"])
    return dict(values)


def training(suite, name, variables=None):
    """Ten steps on the GPU beside those of the cpu, and once more."""

    def run(budget):
        with tempfile.TemporaryDirectory() as folder:
            runs = Runs(suite, name, budget, folder, variables)
            own = runs.case.run.format(data=runs.data).split()
            runs.tune(*own)
            gpu, cpu, again = [
                runs.steps(target, run, *own)
                for target, run in (("cuda", "gpu"), ("cpu", "cpu"), ("cuda", "again"))
            ]
        limit = re.search(r"--clip=(\S+)", runs.case.run)
        if limit and not min(finite(cpu["norms"])) > float(limit.group(1)):
            raise Failed(f"not all steps were clipped: norms {cpu['norms']}")
        return compare(gpu, cpu, again, bounds_of(runs.case))

    return run


def resume(suite, name):
    """Ten steps, and the same stopped after five and resumed; and resumed on the cpu, which
    knows of the GPU only what the checkpoint says."""

    def run(budget):
        with tempfile.TemporaryDirectory() as folder:
            runs = Runs(suite, name, budget, folder)
            # Else the rate depends on how many steps there will be.
            rate = "--lr-schedule=constant"
            runs.tune(rate)
            straight = runs.steps("cuda", "straight", rate)
            kept, other = runs.folder / "checkpoints", runs.folder / "for-cpu"
            runs.steps(
                "cuda", "run", rate, f"--checkpoint-dir={kept}", steps=STEPS_BEFORE_STOP
            )
            shutil.copytree(kept, other)
            resumed = runs.steps("cuda", "run", rate, f"--checkpoint-dir={kept}", "--resume")
            cpu = runs.steps("cpu", "cpu", rate, f"--checkpoint-dir={other}", "--resume")
        return compare_resumed(straight, resumed, cpu, bounds_of(runs.case))

    return run


def compare_resumed(straight, resumed, cpu, bounds):
    """What ten steps reported; five and five; the latter five on the cpu."""
    whole = {
        what: straight.get(what, [])[:STEPS_BEFORE_STOP] + values
        for what, values in cpu.items()
    }
    return compare(straight, whole, resumed, bounds, "stopped and resumed")


def bounds_of(case):
    is_of_bf16_pairs = case.objective() == "dpo" and case.dtype() == "bf16"
    return BOUNDS_OF_BF16_PAIRS if is_of_bf16_pairs else BOUNDS[case.dtype()]


def finite(values):
    if any(value is None for value in values):
        raise Failed(f"not finite: {values}")
    return values


def compare(gpu, cpu, again, bounds, what_again="two runs"):
    """What ten steps reported, on the GPU, on the cpu, and on the GPU again."""
    numbers, problems = {}, []
    if gpu.keys() != cpu.keys():
        raise Failed(f"reports of {sorted(gpu)}, of the cpu of {sorted(cpu)}")
    for what, ours in gpu.items():
        theirs = cpu[what]
        most = 2 if what == "losses of evaluations" else STEPS
        if len(ours) != most or len(theirs) != most:
            raise Failed(f"{len(ours)} and {len(theirs)} {what} of {most}")
        errors = errors_of(what, finite(ours), finite(theirs))
        bound = bounds[what == "norms"]
        numbers[f"largest_error_of_{what.replace(' ', '_')}"] = max(errors)
        if not max(errors) < bound:
            step = next(i for i, error in enumerate(errors) if not error < bound)
            problems.append(
                f"{what} differ from those of the cpu by {max(errors):.3g}, first in step "
                f"{step}: {ours[step]:.6g}, of the cpu {theirs[step]:.6g}"
            )
        if ours != again.get(what):
            both = zip(ours, again.get(what, []))
            step = next((i for i, (a, b) in enumerate(both) if a != b), len(ours))
            problems.append(f"{what_again}: other {what}, first in step {step}")
    numbers.update(first_loss=cpu["losses"][0], last_loss=cpu["losses"][-1])
    if problems:
        raise Failed("; ".join(problems), numbers)
    return numbers


def errors_of(what, ours, theirs):
    sizes = [SIZE_OF_REWARDS if what.startswith("rewards") else abs(b) for b in theirs]
    return [abs(a - b) / size for a, b, size in zip(ours, theirs, sizes)]
