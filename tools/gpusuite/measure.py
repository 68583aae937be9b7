# SPDX-License-Identifier: Apache-2.0
"""how fast is it: ceilings, decode, prefill, training, start, beside PyTorch"""
import json
import os
import pathlib
import struct
import tempfile

from gpusuite.results import Failed, Item, Skipped
from gpusuite.suite import EXIT_SKIPPED

PROMPT, DECODED, LONG_PROMPT = 512, 128, 4096
# Multiply-adds count twice: of the weights that products read, per token. Attention
# scores come besides: 4 * layers * hidden * (half the prompt) per token.
SHAPES = {
    "1b": {"layers": 16, "hidden": 2048, "kv": 512, "inner": 8192, "vocab": 128256},
    "8b": {"layers": 32, "hidden": 4096, "kv": 1024, "inner": 14336, "vocab": 128256},
}
TRAINED_TOKENS = 8192
TORCH = pathlib.Path(__file__).with_name("torch_llama.py")


def items(suite):
    """What matters most comes first, for runs with little time."""
    known = Known(suite)
    yield Item("ceilings", known.ceilings, 10, 60)
    for shape, needs in (("1b", 20), ("8b", 50)):
        yield Item(f"decode {shape}", known.decode(shape), needs, 150)
    yield Item("prefill 8b", known.prefill, 50, 150)
    for shape, needs in (("8b-q8_0", 40), ("8b-q4_0", 40), ("1b-q8_0", 20), ("1b-q4_0", 20)):
        yield Item(f"decode {shape}", known.decode(shape), needs, 150)
    yield Item("decode 1b without graphs", known.decode("1b", "--graphs=off"), 20, 60)
    yield Item("start 1b", known.start, 30, 90)
    yield Item("training step 1b", known.training, 60, 150)
    for what in ("decode 1b", "decode 8b", "prefill 8b", "training step 1b"):
        yield Item(f"PyTorch {what}", known.torch(what), 45, 150)


def matrix_weights(shape):
    """Weights that a token is multiplied with in each layer, and in the head."""
    s = SHAPES[shape]
    layer = s["hidden"] * (2 * s["hidden"] + 2 * s["kv"] + 3 * s["inner"])
    return s["layers"] * layer, s["vocab"] * s["hidden"]


def prefill_flops(shape, tokens):
    """The head multiplies the last token only; attention is causal."""
    s = SHAPES[shape]
    layers, head = matrix_weights(shape)
    attention = 2 * s["layers"] * s["hidden"] * tokens * tokens
    return 2 * layers * tokens + 2 * head + attention


def training_flops(shape, tokens, sequence):
    """Forward and twice as much backward; nothing for what is computed again."""
    s = SHAPES[shape]
    attention = 2 * s["layers"] * s["hidden"] * tokens * sequence
    return 3 * (2 * sum(matrix_weights(shape)) * tokens + attention)


class Known:
    """The items; what one has measured, the next ones compare with."""

    def __init__(self, suite):
        self.suite = suite
        self.ceiling = {}
        self.ours = {}

    def ceilings(self, budget):
        values, done = self.suite.json(
            [self.suite.program("gpu-ceilings")], budget.left()
        )
        self.ceiling = values
        numbers = {k: v for k, v in values.items() if isinstance(v, float)}
        numbers["matrix_library"] = values.get("matrix_library", "")
        errors = [str(v) for k, v in values.items() if k.endswith("_error")]
        if errors or done.code != 0:
            raise Failed("; ".join(errors) or done.why("gpu-ceilings"), numbers)
        return numbers

    def share(self, value, ceiling):
        most = self.ceiling.get(ceiling)
        return {"share_of_ceiling": value / most} if most else {}

    def bench(self, plan, budget, *more, weights="random:1"):
        """Rows of llmrt bench by "prefill" and "decode", and its context."""
        command = [
            self.suite.program("llmrt"), "bench", self.suite.plan(plan),
            f"--weights={weights}", "--no-ceiling", "--output=json", *more,
        ]  # fmt: skip
        done = self.suite.run(command, budget.left())
        try:
            report = json.loads(done.output)
        except ValueError:
            raise Failed(done.why("llmrt bench"))
        rows = {row["name"].split("/")[0]: row for row in report["benchmarks"]}
        return rows, report["context"]

    def decode(self, shape, *more):
        def run(budget):
            rows, context = self.bench(
                f"{shape}.fb", budget,
                f"--prompt-tokens={PROMPT}", f"--decode-tokens={DECODED}", *more,
            )  # fmt: skip
            decode, prefill = rows["decode"], rows["prefill"]
            seconds = decode["real_time"] * 1e-3
            moved = decode["weight_bytes_per_token"] + decode["cache_bytes_per_token"]
            numbers = {
                "tokens_per_second": decode["tokens_per_second"],
                "best_tokens_per_second": decode["best_tokens_per_second"],
                "read_bytes_per_second": moved / seconds,
                **self.share(moved / seconds, "read_bytes_per_second"),
                "time_to_first_token_seconds": prefill["real_time"] * 1e-3 * PROMPT,
                "start_to_prefill_seconds": float(context["start_to_prefill_seconds"]),
            }
            per_layer = self.suite.kernels_per_layer(f"{shape}.fb")
            if per_layer is not None:
                numbers["kernels_per_layer"] = per_layer
            if not more:
                self.ours[f"decode {shape}"] = decode["tokens_per_second"]
            return numbers

        return run

    def prefill(self, budget):
        rows, _ = self.bench(
            "8b-prefill.fb", budget,
            f"--prompt-tokens={LONG_PROMPT}", "--decode-tokens=0",
        )  # fmt: skip
        rate = rows["prefill"]["tokens_per_second"]
        flops = prefill_flops("8b", LONG_PROMPT) * rate / LONG_PROMPT
        self.ours["prefill 8b"] = rate
        return {
            "tokens_per_second": rate,
            "flops_per_second": flops,
            **self.share(flops, "bf16_flops_per_second"),
        }

    def start(self, budget):
        """From the start of the process, weights in page cache, to the first token."""
        plan = self.suite.plan("1b.fb")
        with tempfile.TemporaryDirectory() as folder:
            write_weights(pathlib.Path(folder) / "model.safetensors", "1b")
            measured = []
            while len(measured) < 3 and (not measured or budget.left() > 20):
                _, context = self.bench(
                    plan.name, budget, f"--prompt-tokens={PROMPT}",
                    "--decode-tokens=1", "--repetitions=1", weights=folder,
                )  # fmt: skip
                measured.append(context)
                budget.partial({"runs": len(measured)})
        names = ("start_to_prefill_seconds", "start_to_first_token_seconds")
        return {n: min(float(c[n]) for c in measured) for n in names if n in measured[0]}

    def training(self, budget):
        plan = self.suite.plan("1b-train.fb")
        data = self.suite.data()
        with tempfile.TemporaryDirectory() as folder:
            metrics = pathlib.Path(folder) / "metrics.jsonl"
            done = self.suite.run(
                [
                    self.suite.program("llmrt"), "run", plan, "--weights=random:1",
                    f"--data={data}/data.jsonl", f"--data-cache={folder}",
                    f"--tokenizer={data}/tokenizer.json", "--steps=8", "--quiet",
                    f"--metrics={metrics}",
                ],
                budget.left(),
            )  # fmt: skip
            if done.code != 0:
                raise Failed(done.why("llmrt run"))
            steps = [json.loads(line) for line in metrics.read_text().splitlines()]
        rate = sorted(s["tokens_per_second"] for s in steps[2:])[len(steps[2:]) // 2]
        flops = training_flops("1b", 1, 2048) * rate
        self.ours["training step 1b"] = rate
        return {
            "tokens_per_second": rate,
            "step_seconds": TRAINED_TOKENS / rate,
            "flops_per_second": flops,
            **self.share(flops, "bf16_flops_per_second"),
        }

    def torch(self, what):
        def run(budget):
            numbers, problem = {}, ""

            def take(line):
                nonlocal problem
                try:
                    said = json.loads(line)
                except ValueError:
                    return
                problem = said.pop("problem", problem)
                numbers.update(said)
                budget.partial(said)

            done = self.suite.run(
                [self.suite.options.python, TORCH, *what.rsplit(" ", 1)],
                budget.left(),
                take,
                dict(os.environ),  # it finds its own libraries
            )
            if done.code == EXIT_SKIPPED:
                raise Skipped(problem or "no reason given")
            if done.code != 0 or problem:
                raise Failed(problem or done.why("PyTorch"), numbers)
            rate = numbers.get("tokens_per_second")
            if rate and what in self.ours:
                numbers["ours_times_pytorch"] = self.ours[what] / rate
            return numbers

        return run


def tensors(shape):
    """Names and shapes of a checkpoint with tied embeddings, as Hugging Face has them."""
    s = SHAPES[shape]
    hidden, kv, inner = s["hidden"], s["kv"], s["inner"]
    yield "model.embed_tokens.weight", (s["vocab"], hidden)
    for i in range(s["layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "self_attn.q_proj.weight", (hidden, hidden)
        yield layer + "self_attn.k_proj.weight", (kv, hidden)
        yield layer + "self_attn.v_proj.weight", (kv, hidden)
        yield layer + "self_attn.o_proj.weight", (hidden, hidden)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        yield layer + "mlp.gate_proj.weight", (inner, hidden)
        yield layer + "mlp.up_proj.weight", (inner, hidden)
        yield layer + "mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)


def write_weights(path, shape):
    """A bf16 checkpoint of any small values; its pages stay in the page cache."""
    header, offset = {}, 0
    for name, dims in tensors(shape):
        size = 2
        for dim in dims:
            size *= dim
        header[name] = {
            "dtype": "BF16",
            "shape": list(dims),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # bf16 numbers between -0.03 and 0.03, another one at each place of a megabyte.
    block = bytearray()
    for i in range(1 << 19):
        sign = (i * 2654435761 >> 7 & 1) << 15
        block += struct.pack("<H", sign | 0x3C00 | (i * 40503 >> 3 & 0xFF))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for at in range(0, offset, len(block)):
            file.write(block[: min(len(block), offset - at)])
