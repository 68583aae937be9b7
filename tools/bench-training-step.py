#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times a training step of a 110M shape (12 layers, 768 wide, 2048 inner, vocabulary
32000; batch 4, 512 tokens, f32) in turns with what it is compared with:

  its matrix products alone, in the better of oneDNN and OpenBLAS: those of linear
    layers; and with the six of attention, at half of their time, as attention is causal
  the same step in PyTorch, if --python=PATH names a Python that has it
  ZeRO 3 with ZeRO 0 over two ranks of one thread, under mpirun if it is there

  bench-training-step.py [--turns=3] [--steps=3] [--python=PATH] [--bin=build/release/bin]

Each turn runs all of them once; printed are medians over turns and ratios.
"""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = "llama,layers=12,hidden=768,heads=12,intermediate=2048,vocab=32000,context=512"
NUM_LAYERS = 12
# Layers of each shape of BM_LibraryProducts, by outputs and inputs.
LAYERS = {(768, 768): 48, (2048, 768): 24, (768, 2048): 12, (32000, 768): 1}

TORCH_STEP = """
import sys, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.set_num_threads(int(sys.argv[1]))
model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, hidden_size=768,
    intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
    max_position_embeddings=512))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
ids = torch.randint(0, 32000, (4, 512))
times = []
for _ in range(int(sys.argv[2]) + 1):
    begin = time.time()
    optimizer.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    times.append(time.time() - begin)
print(sorted(times[1:])[len(times[1:]) // 2])
"""


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench-training-step: {command[0]} failed:\n{done.stderr}")
    return done.stdout


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.bin = pathlib.Path(options.bin)
        run(["python3", ROOT / "tools/make-tokenizer.py", "--vocabulary=512", "-o",
             folder / "tokenizer.json", ROOT / "README.md",
             *(ROOT / "docs/design").glob("*.md")])
        text = "".join(p.read_text() for p in (ROOT / "docs").rglob("*.md"))
        (folder / "data.jsonl").write_text(json.dumps({"text": text}) + "\n")
        run([self.bin / "llmc", "import", f"--new={MODEL}", "-o", folder / "m.mlir"])
        self.compile("one.fb")
        for zero in (0, 3):
            self.compile(f"zero{zero}.fb", "--mesh=dp=2", f"--zero={zero}")

    def compile(self, plan, *more):
        run([self.bin / "llmc", "compile", self.folder / "m.mlir", "--mode=train",
             "--batch=4", "--seq=512", "--quiet", "-o", self.folder / plan, *more])

    def step(self, plan, threads, launcher=()):
        metrics = self.folder / "metrics.jsonl"
        run([*launcher, self.bin / "llmrt", "run", self.folder / plan,
             "--weights=random:1", f"--data={self.folder}/data.jsonl",
             f"--tokenizer={self.folder}/tokenizer.json", f"--threads={threads}",
             f"--steps={self.options.steps + 1}", "--quiet", f"--metrics={metrics}"])
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        return statistics.median(2048 / l["tokens_per_second"] for l in lines[1:])

    def library(self, name):
        out = run([self.bin / "kernels-bench", f"--benchmark_filter={name}/",
                   "--benchmark_format=json"])
        return [(list(map(int, b["name"].split("/")[1:4])), b["milliseconds"] * 1e-3)
                for b in json.loads(out)["benchmarks"]]

    def products(self):
        return sum(LAYERS[(outputs, inputs)] * seconds
                   for (_, outputs, inputs), seconds in self.library("LibraryProducts"))

    def attention_products(self):
        [(_, seconds)] = self.library("LibraryAttentionProducts")
        return NUM_LAYERS * seconds / 2

    def torch(self, threads):
        return float(run([self.options.python, "-c", TORCH_STEP, threads,
                          self.options.steps]))

    def contestants(self):
        all_ = {"step": lambda: self.step("one.fb", 2), "products": self.products,
                "attention": self.attention_products}
        if self.options.python:
            all_["PyTorch"] = lambda: self.torch(2)
        launcher = ()
        if shutil.which("mpirun"):
            launcher = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2")
        for zero in (0, 3):
            all_[f"ZeRO {zero}, dp=2"] = (
                lambda zero=zero: self.step(f"zero{zero}.fb", 1, launcher))
        return all_


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--python")
    parser.add_argument("--bin", default=ROOT / "build/release/bin")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contestants = Bench(options, pathlib.Path(folder)).contestants()
        times = {name: [] for name in contestants}
        for turn in range(options.turns):
            for name, measure in contestants.items():
                times[name].append(measure())
                print(f"turn {turn + 1}: {name}: {times[name][-1]:.3f} s", flush=True)
    median = {name: statistics.median(t) for name, t in times.items()}
    products = median["products"]
    print(f"products of linear layers alone / step: {products / median['step']:.3f}")
    products += median["attention"]
    print(f"all products alone / step: {products / median['step']:.3f}")
    if "PyTorch" in median:
        print(f"PyTorch's step / step: {median['PyTorch'] / median['step']:.3f}")
    print(f"ZeRO 3 / ZeRO 0: {median['ZeRO 3, dp=2'] / median['ZeRO 0, dp=2']:.3f}")


if __name__ == "__main__":
    main()
