# SPDX-License-Identifier: Apache-2.0
"""how fast is it: ceilings, decode, prefill, training, start, beside PyTorch"""
import json
import os
import pathlib
import struct
import tempfile

from gpusuite.machine import EXIT_SKIPPED
from gpusuite.results import Failed, Item, Skipped

PROMPT, DECODED, LONG_PROMPT = 512, 128, 4096
# Multiply-adds count twice: of the weights that products read, per token. Attention
# scores come besides: 4 * layers * hidden * (half the prompt) per token.
SHAPES = {
    "1b": {"layers": 16, "hidden": 2048, "kv": 512, "inner": 8192, "vocab": 128256},
    "8b": {"layers": 32, "hidden": 4096, "kv": 1024, "inner": 14336, "vocab": 128256},
}
TRAINED_TOKENS = 8192
TORCH = pathlib.Path(__file__).with_name("torch_llama.py")


def items(suite, results):
    """What matters most comes first, for runs with little time."""
    known = Known(suite, results)
    yield Item("ceilings", known.ceilings, 10, 40)
    for shape, needs in (("1b", 15), ("8b", 30)):
        yield Item(f"decode {shape}", known.decode(shape), needs, 60)
    yield Item("prefill 8b", known.prefill, 30, 60)
    yield Item("training step 1b", known.training, 40, 90)
    yield Item("start 1b", known.start, 30, 60)
    for what, needs, most in (
        ("decode 1b", 60, 120), ("training step 1b", 80, 150), ("decode 8b", 90, 150),
    ):  # fmt: skip
        yield Item(f"PyTorch {what}", known.torch(what), needs, most)
    yield Item("decode 1b without graphs", known.decode("1b", "--graphs=off"), 15, 40)
    for shape, needs in (("8b-q8_0", 30), ("8b-q4_0", 30), ("1b-q8_0", 15), ("1b-q4_0", 15)):
        yield Item(f"decode {shape}", known.decode(shape), needs, 60)
    yield Item("PyTorch prefill 8b", known.torch("prefill 8b"), 45, 150)
    yield Item("ceilings again", known.ceilings, 10, 40)


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
    """The items; what one has measured, the next ones compare with, also those of a later
    run on the same GPU (--only)."""

    def __init__(self, suite, results):
        self.suite, self.results = suite, results

    def ceilings(self, budget):
        values, done = self.suite.json(
            [self.suite.program("gpu-ceilings")], budget.left()
        )
        numbers = {k: v for k, v in values.items() if isinstance(v, float)}
        numbers["matrix_library"] = values.get("matrix_library", "")
        errors = [str(v) for k, v in values.items() if k.endswith("_error")]
        if errors or done.code != 0:
            raise Failed("; ".join(errors) or done.why("gpu-ceilings"), numbers)
        return numbers

    def share(self, value, ceiling):
        row = self.results.row("ceilings")
        most = row.get("numbers", {}).get(ceiling)
        if not most:
            return {}
        share = {"share_of_ceiling": value / most}
        if row in self.results.earlier:
            share["ceiling_of"] = row.get("at", "an earlier run")
        return share

    def need_library(self):
        """Without it products run by our own kernels, at a fraction of the rate."""
        if os.environ.get("LLMRT_CUBLASLT_LIBRARY") == "off":
            return
        found = self.results.machine.get("cublaslt", "")
        if "not used" in found or "LLMC-E" in found:
            raise Failed(f"cuBLASLt was not found: {found}")

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
            raise Failed(done.why("llmrt bench"), hung=done.timed_out)
        rows = {row["name"].split("/")[0]: row for row in report["benchmarks"]}
        # With the start of the process itself and its end.
        return rows, {**report["context"], "process_seconds": done.seconds}

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
                # The host's part of a token, to compare with the whole.
                "cpu_seconds_per_token": decode["cpu_time"] * 1e-3,
                "seconds_per_token": seconds,
            }
            per_layer = self.suite.kernels_per_layer(f"{shape}.fb")
            if per_layer is not None:
                numbers["kernels_per_layer"] = per_layer
            return numbers

        return run

    def prefill(self, budget):
        self.need_library()
        rows, _ = self.bench(
            "8b-prefill.fb", budget,
            f"--prompt-tokens={LONG_PROMPT}", "--decode-tokens=0",
        )  # fmt: skip
        rate = rows["prefill"]["tokens_per_second"]
        flops = prefill_flops("8b", LONG_PROMPT) * rate / LONG_PROMPT
        return {
            "tokens_per_second": rate,
            "flops_per_second": flops,
            **self.share(flops, "bf16_flops_per_second"),
        }

    def start(self, budget):
        """From the start of the process, weights in page cache, to the first token. Once
        with a GPU that nobody else keeps started and nothing tuned, then the best of
        three."""
        plan = self.suite.plan("1b.fb")
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as tuned:
            write_weights(pathlib.Path(folder) / "model.safetensors", "1b")

            def once():
                return self.bench(
                    plan.name, budget, f"--prompt-tokens={PROMPT}", "--decode-tokens=1",
                    "--repetitions=1", f"--tuning-cache={tuned}/tuned.json", weights=folder,
                )[1]  # fmt: skip

            self.suite.device.release()
            try:
                cold = once()
            finally:
                self.suite.device.hold()
            numbers = {f"cold_{k}": v for k, v in start_times(cold).items()}
            budget.partial(numbers)
            measured = []
            while len(measured) < 3 and (not measured or budget.left() > 15):
                measured.append(start_times(once()))
                budget.partial({"runs": len(measured)})
        best = min(measured, key=lambda times: times["start_to_first_token_seconds"])
        return {**best, **numbers}

    def training(self, budget):
        self.need_library()
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
                raise Failed(done.why("llmrt run"), hung=done.timed_out)
            steps = [json.loads(line) for line in metrics.read_text().splitlines()]
        rate = sorted(s["tokens_per_second"] for s in steps[2:])[len(steps[2:]) // 2]
        flops = training_flops("1b", 1, 2048) * rate
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
                [
                    self.suite.options.python, TORCH, *what.rsplit(" ", 1),
                    f"--seconds={budget.left():.0f}",
                ],
                budget.left(),
                take,
                dict(os.environ),  # it finds its own libraries
            )  # fmt: skip
            if done.code == EXIT_SKIPPED:
                raise Skipped(problem or "no reason given")
            if done.code != 0 or problem:
                raise Failed(problem or done.why("PyTorch"), numbers, hung=done.timed_out)
            if numbers.get("cudagraph_skips"):
                raise Failed("PyTorch did not capture its graphs: the log has why", numbers)
            return {**numbers, **ratios(self.results.numbers(what), numbers)}

        return run


def ratios(ours, theirs):
    """Of speeds, so that more than 1 is for us."""
    numbers = {}
    if ours.get("tokens_per_second") and theirs.get("tokens_per_second"):
        numbers["ours_times_pytorch"] = ours["tokens_per_second"] / theirs["tokens_per_second"]
    first = "time_to_first_token_seconds"
    if ours.get(first) and theirs.get(first):
        numbers["first_token_ours_times_pytorch"] = theirs[first] / ours[first]
    return numbers


def start_times(context):
    """Since the start of the process, in the order in which they come."""
    return {k: float(v) for k, v in context.items() if k.endswith("_seconds")}


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
