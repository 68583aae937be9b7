# SPDX-License-Identifier: Apache-2.0
"""Texts that a model generates on the GPU, token for token beside those of the cpu: a file
of prompts of which several are in flight, most likely tokens and drawn ones, on one rank
and on ranks that share the GPU. The model is small and has learned this repository's texts
on the cpu, when the suite was packed."""
import json
import pathlib
import tempfile

from gpusuite.plans import TEXT_MODEL, TEXTS
from gpusuite.results import Failed, Item

# Tokens to make, none and one among them; every third prompt's are drawn.
NEW_TOKENS = (9, 1, 40, 0, 4, 30, 12, 48, 25)
DRAWN = {"temperature": 0.8, "top_p": 0.95, "top_k": 40}


def items(suite):
    for name in TEXTS:
        yield Item(f"text {name}", generate(suite, name), 10, 40, "text")


def prompts(data):
    """Prompts of different lengths, some longer than a chunk of 16 tokens."""
    lines = (data / "sft.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    for i, count in enumerate(NEW_TOKENS):
        sample = samples[17 * i % len(samples)]
        text = sample["prompt"] + (sample["completion"][:30] if i % 4 == 1 else "")
        drawn = {**DRAWN, "seed": i} if i % 3 == 2 else {}
        yield {"prompt": text, "max_new_tokens": count, **drawn}


class Generator:
    """Runs of plans on the file of prompts."""

    def __init__(self, suite, budget, folder):
        self.suite, self.budget = suite, budget
        self.folder, self.data = pathlib.Path(folder), suite.data()
        self.prompts = list(prompts(self.data))
        lines = "".join(json.dumps(prompt) + "\n" for prompt in self.prompts)
        (self.folder / "in.jsonl").write_text(lines)

    def run(self, plan, *more):
        done = self.suite.run(
            [
                self.suite.program("llmrt"), "run", self.suite.plan(plan), "--quiet",
                f"--weights={self.data}/{TEXT_MODEL}",
                f"--tokenizer={self.data}/tokenizer.json", *more,
            ],
            self.budget.left(),
        )  # fmt: skip
        if done.code != 0:
            raise Failed(done.why(f"llmrt run {plan}"), hung=done.timed_out)
        return done.output

    def texts(self, plan, *more):
        """A line of results for each prompt."""
        out = self.folder / "out.jsonl"
        out.unlink(missing_ok=True)
        self.run(plan, f"--prompts={self.folder}/in.jsonl", f"--output={out}", *more)
        return [json.loads(line) for line in out.read_text().splitlines()]

    def text(self, plan, prompt):
        """What one prompt gets that is alone."""
        return self.run(
            plan, f"--prompt={prompt['prompt']}", f"--max-new-tokens={prompt['max_new_tokens']}"
        )


def generate(suite, name):
    plan, is_f32 = f"text_{name}.cuda.fb", name.startswith("f32")

    def run(budget):
        suite.plan(plan)  # before anything else is missed
        with tempfile.TemporaryDirectory() as folder:
            generator = Generator(suite, budget, folder)
            gpu = generator.texts(plan)
            cpu = generator.texts(f"text_{name.split('_')[0]}.cpu.fb")
            if is_f32:  # else roundings may turn the scales
                expect_same(gpu, cpu, "of the cpu")
            if name in ("f32", "bf16"):
                expect_same(gpu, generator.texts(plan, "--graphs=off"), "with --graphs=off")
            longest = max(generator.prompts, key=lambda p: p["max_new_tokens"])
            alone = generator.text(plan, longest)
            together = gpu[generator.prompts.index(longest)]["completion"]
            if is_f32 and alone != together + "\n":
                raise Failed(f"alone a prompt gets {alone!r}, with others {together!r}")
        return {
            "tokens": sum(len(line["tokens"]) for line in gpu),
            "prompts_as_on_the_cpu": sum(a == b for a, b in zip(gpu, cpu)),
        }

    return run


def expect_same(ours, others, whose):
    if len(ours) != len(NEW_TOKENS) or len(others) != len(NEW_TOKENS):
        raise Failed(f"{len(ours)} and, {whose}, {len(others)} lines of {len(NEW_TOKENS)}")
    different = [i for i, (a, b) in enumerate(zip(ours, others)) if a != b]
    if different:
        first = different[0]
        raise Failed(
            f"{len(different)} of {len(ours)} prompts get other texts, first line "
            f"{first + 1}: {ours[first]}, {whose} {others[first]}"
        )
