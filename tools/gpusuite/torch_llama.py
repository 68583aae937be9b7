#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Llama shapes of `measure` in PyTorch: a static cache, torch.compile, bf16, random
weights. Needs PyTorch alone. Prints JSON lines: numbers as they come, or a problem.

  torch_llama.py decode|prefill|"training step" 1b|8b|tiny [--device=cuda] [--no-compile]
                 [--seconds=N]

Each number is the best that we know how to get of PyTorch: whole decode steps captured,
first with Inductor's usual choices, then, where half of the seconds are left, tuned by
coordinate descent (products of one row become reductions at memory speed); no token is
read before the last; bf16 activations between layers, also in training.
Exit status: 0; 77 where PyTorch or a GPU is missing.
"""
import argparse
import dataclasses
import json
import sys
import time

EXIT_SKIPPED = 77


def say(**numbers):
    print(json.dumps(numbers), flush=True)


try:
    import torch
    import torch._inductor.config
    import torch.nn.functional as F
    from torch import nn
    from torch._dynamo.utils import counters
except ImportError as error:
    say(problem=f"PyTorch cannot be imported: {error}")
    sys.exit(EXIT_SKIPPED)


@dataclasses.dataclass
class Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    inner: int
    vocab: int
    tied: bool
    theta: float = 500000.0
    eps: float = 1e-5


SHAPES = {
    "1b": Shape(16, 2048, 32, 8, 8192, 128256, True),
    "8b": Shape(32, 4096, 32, 8, 14336, 128256, False),
    "tiny": Shape(2, 64, 4, 2, 128, 320, True),
}
PROMPT, DECODED, LONG_PROMPT = 512, 128, 4096
TRAINED = (4, 2048)  # sequences, tokens of each
REPETITIONS = 3


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(x.dtype) * self.weight.to(x.dtype)


def turned(x, cosines, sines):
    """Rotary position embedding, Hugging Face's pairs (i, i + D/2)."""
    a, b = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-b, a), dim=-1) * sines


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s, self.width = s, s.hidden // s.heads
        kv = s.kv_heads * self.width
        self.attention_norm = RmsNorm(s.hidden, s.eps)
        self.qkv = nn.Linear(s.hidden, s.hidden + 2 * kv, bias=False)
        self.out = nn.Linear(s.hidden, s.hidden, bias=False)
        self.mlp_norm = RmsNorm(s.hidden, s.eps)
        self.gate_up = nn.Linear(s.hidden, 2 * s.inner, bias=False)
        self.down = nn.Linear(s.inner, s.hidden, bias=False)
        # Buffers: a captured graph may write them in place.
        self.register_buffer("keys", None, persistent=False)
        self.register_buffer("values", None, persistent=False)

    def heads(self, x, count):
        return x.view(x.shape[0], x.shape[1], count, self.width).transpose(1, 2)

    def forward(self, x, cosines, sines, positions, mask):
        s = self.s
        kv = s.kv_heads * self.width
        q, k, v = self.qkv(self.attention_norm(x)).split((s.hidden, kv, kv), dim=-1)
        q = turned(self.heads(q, s.heads), cosines, sines)
        k = turned(self.heads(k, s.kv_heads), cosines, sines)
        v = self.heads(v, s.kv_heads)
        if self.keys is not None:
            self.keys[:, :, positions] = k
            self.values[:, :, positions] = v
            if mask is not None:  # else the whole prompt is here
                k, v = self.keys, self.values
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.embedding = nn.Embedding(s.vocab, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = RmsNorm(s.hidden, s.eps)
        self.head = nn.Linear(s.hidden, s.vocab, bias=False)
        if s.tied:
            self.head.weight = self.embedding.weight

    def prepare(self, context, batch, device, dtype, cached):
        width = self.s.hidden // self.s.heads
        steps = torch.arange(0, width, 2, device=device).float() / width
        angles = torch.outer(
            torch.arange(context, device=device).float(), self.s.theta**-steps
        )
        angles = torch.cat((angles, angles), dim=-1)
        self.dtype = dtype
        self.cosines, self.sines = angles.cos().to(dtype), angles.sin().to(dtype)
        self.seen = torch.ones(context, context, dtype=torch.bool, device=device).tril()
        stay = [self.cosines, self.sines, self.seen]
        for layer in self.layers if cached else ():
            size = (batch, self.s.kv_heads, context, width)
            layer.keys = torch.zeros(size, device=device, dtype=dtype)
            layer.values = torch.zeros(size, device=device, dtype=dtype)
            stay += [layer.keys, layer.values]
        for tensor in stay:  # a captured graph need not copy them
            torch._dynamo.mark_static_address(tensor)

    def rows(self, ids, positions, is_decode, layer_forward=Layer.forward):
        x = self.embedding(ids).to(self.dtype)
        mask = self.seen[positions][None, None] if is_decode else None
        for layer in self.layers:
            turns = self.cosines[positions], self.sines[positions]
            x = layer_forward(layer, x, *turns, positions, mask)
        return self.norm(x)

    def next_id(self, *arguments):
        """The most likely token after the last row."""
        return self.head(self.rows(*arguments)[:, -1]).argmax(-1, True)

    def loss(self, ids, labels):
        positions = torch.arange(ids.shape[1], device=ids.device)
        logits = self.head(self.rows(ids, positions, False))
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


def make_model(shape, context, batch, device, dtype, cached, activations=None):
    torch.manual_seed(1)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = Llama(shape)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
    torch.set_default_dtype(torch.float32)
    model.prepare(context, batch, device, activations or dtype, cached)
    return model


def finish(device):
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def median(values):
    return sorted(values)[len(values) // 2]


class Decoding:
    def __init__(self, shape, prompt, decoded, device, dtype=torch.bfloat16):
        self.model = make_model(shape, prompt + decoded + 8, 1, device, dtype, True)
        self.prompt, self.decoded, self.device = prompt, decoded, device
        self.ids = torch.arange(prompt, device=device)[None] * 7919 % shape.vocab
        self.positions = torch.arange(prompt, device=device)

    def once(self, prefill, decode):
        """Seconds to the first token, and of one more; all tokens."""
        begin = finish(self.device)
        tokens = [prefill(self.ids, self.positions, False).clone()]
        first = finish(self.device)
        at = torch.full((1,), self.prompt, device=self.device)
        for _ in range(self.decoded):  # on the GPU alone: nothing waits for the host
            tokens.append(decode(tokens[-1], at, True).clone())
            at = at + 1
        end = finish(self.device)
        return first - begin, (end - first) / max(1, self.decoded), tokens

    def report(self, prefill, decode, repetitions):
        self.once(prefill, decode)  # compiles, and captures what is called often
        self.once(prefill, decode)
        times = [self.once(prefill, decode) for _ in range(repetitions)]
        first = median([seconds for seconds, _, _ in times])
        token = median([seconds for _, seconds, _ in times])
        if self.decoded == 0:
            return {"tokens_per_second": self.prompt / first}
        return {"tokens_per_second": 1 / token, "time_to_first_token_seconds": first}


@torch.no_grad()
def cache_is_right(device):
    """True if decoding gives the tokens that the whole sequence gives at once."""
    decoding = Decoding(SHAPES["tiny"], 8, 4, device, torch.float32)
    step = decoding.model.next_id
    tokens = torch.cat(decoding.once(step, step)[2], dim=-1)
    for layer in decoding.model.layers:
        layer.keys = layer.values = None
    rows = torch.cat((decoding.ids, tokens[:, :-1]), dim=-1)
    positions = torch.arange(rows.shape[1], device=device)
    whole = decoding.model.head(decoding.model.rows(rows, positions, False)).argmax(-1)
    return torch.equal(whole[:, 7:], tokens)


def compiled_prefill(step, shape):
    """As one graph where launching takes as long as computing; of a larger model layer
    by layer, with the same code for each: its whole graph takes a minute to compile."""
    if shape.layers <= SHAPES["1b"].layers:
        return torch.compile(lambda *a: step(*a), fullgraph=True)
    layer_forward = torch.compile(Layer.forward, fullgraph=True)
    return lambda *a: step(*a, layer_forward)


@torch.no_grad()
def generate(shape, prompt, decoded, device, compiles, ends):
    began = time.monotonic()
    if not cache_is_right(device):
        return say(problem="PyTorch's model gives other tokens with its cache")
    decoding = Decoding(shape, prompt, decoded, device)
    step = decoding.model.next_id
    eager = decoding.report(step, step, 1)
    say(eager_tokens_per_second=eager["tokens_per_second"])
    if not compiles:
        return say(**eager)
    prefill = compiled_prefill(step, shape)
    best = {}
    for tunes in (False, True) if decoded else (False,):
        if tunes and time.monotonic() - began > (ends - began) / 2:
            say(tuned=False)
            break
        options = {"triton.cudagraphs": device == "cuda", "coordinate_descent_tuning": tunes}
        decode = torch.compile(lambda *a: step(*a), fullgraph=True, options=options)
        numbers = decoding.report(prefill, decode, REPETITIONS)
        if tunes:
            say(tuned_tokens_per_second=numbers["tokens_per_second"])
        best = max(best, numbers, key=lambda n: n.get("tokens_per_second", 0))
        say(**best, cudagraph_skips=counters["inductor"]["cudagraph_skips"])
    return say(compiled=True)


def train(shape, size, device, compiles):
    batch, tokens = size
    model = make_model(shape, tokens, batch, device, torch.float32, False, torch.bfloat16)
    ids = torch.randint(0, shape.vocab, (batch, tokens + 1), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=device == "cuda")
    loss_of = torch.compile(model.loss) if compiles else model.loss

    def step():
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = loss_of(ids[:, :-1], ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    times = []
    for _ in range(8):
        begin = finish(device)
        step()
        times.append(finish(device) - begin)
    seconds = median(times[3:])
    say(
        tokens_per_second=batch * tokens / seconds,
        step_seconds=seconds,
        compiled=compiles,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["decode", "prefill", "training step"])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        say(problem=f"PyTorch {torch.__version__} sees no GPU")
        return EXIT_SKIPPED
    say(torch=torch.__version__)
    torch.set_float32_matmul_precision("high")
    shape, compiles = SHAPES[options.shape], not options.no_compile
    is_tiny = options.shape == "tiny"
    if options.what == "training step":
        train(shape, (2, 32) if is_tiny else TRAINED, options.device, compiles)
    else:
        prompt = 16 if is_tiny else LONG_PROMPT if options.what == "prefill" else PROMPT
        decoded = 0 if options.what == "prefill" else 8 if is_tiny else DECODED
        ends = time.monotonic() + options.seconds
        generate(shape, prompt, decoded, options.device, compiles, ends)
    return 0


if __name__ == "__main__":
    sys.exit(main())
