# SPDX-License-Identifier: Apache-2.0
"""The plans that check and measure run, and how they are compiled: each once, unless the
compiler, the model or the options have changed since."""
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import typing

LLAMA_1B = (
    "llama,layers={layers},hidden=2048,heads=32,kv_heads=8,intermediate=8192,"
    "vocab=128256,context=8192,tied=1,rope_theta=500000"
)
LLAMA_8B = (
    "llama,layers={layers},hidden=4096,heads=32,kv_heads=8,intermediate=14336,"
    "vocab=128256,context=8192,rope_theta=500000"
)
# Name of the plan, shape, layers, options: what `measure` runs.
MEASURED_PLANS = (
    ("1b.fb", LLAMA_1B, 16, "--dtype=bf16 --seq=1024 --chunk=512"),
    ("8b.fb", LLAMA_8B, 32, "--dtype=bf16 --seq=1024 --chunk=512"),
    *(
        (
            f"{size}-{blocks}.fb",
            shape,
            layers,
            f"--dtype=bf16 --weights-format={blocks} --seq=1024 --chunk=512",
        )
        for size, shape, layers in (("1b", LLAMA_1B, 16), ("8b", LLAMA_8B, 32))
        for blocks in ("q8_0", "q4_0")
    ),
    ("8b-prefill.fb", LLAMA_8B, 32, "--dtype=bf16 --seq=4224 --chunk=4096"),
    (
        "1b-train.fb",
        LLAMA_1B,
        16,
        "--mode=train --dtype=bf16 --seq=2048 --batch=4",
    ),
)
TARGET = "--target=cuda"
# What 1b.fb is compared with.
PARITY_OPTIONS = "--target=cpu --dtype=bf16 --seq=1024 --chunk=512"
# Of `check`: ten training steps, for cuda and for cpu.
TRAINED = (
    "llama,layers={layers},hidden=128,heads=4,kv_heads=2,intermediate=256,"
    "vocab=512,context=64"
)
TRAINED_OPTIONS = "--mode=train --seq=64"


class Training(typing.NamedTuple):
    """Ten steps of a plan: options of llmc compile and of llmrt run, in which {data} is the
    folder of the suite's data. Ranks of a mesh are threads that share the GPU."""

    options: str
    layers: int = 2
    batch: int = 4
    run: str = ""

    def objective(self):
        found = re.search(r"--objective=(\w+)", self.options)
        return found.group(1) if found else "pretrain"

    def dtype(self):
        return re.search(r"--dtype=(\w+)", self.options).group(1)


# One rank first. What each has that the others do not is in its name.
TRAININGS = {
    "f32": Training("--dtype=f32"),
    "bf16": Training("--dtype=bf16"),
    "f32_microbatches_clip": Training("--dtype=f32 --microbatches=4", run="--clip=0.25"),
    "f32_recompute": Training("--dtype=f32 --recompute=full"),
    "f32_sft": Training("--dtype=f32 --objective=sft", run="--eval-data={data}/sft.jsonl"),
    "bf16_sft_microbatches_selective": Training(
        "--dtype=bf16 --objective=sft --microbatches=2 --recompute=selective"
    ),
    "f32_dpo": Training("--dtype=f32 --objective=dpo"),
    "bf16_dpo_precompute": Training("--dtype=bf16 --objective=dpo --reference=precompute"),
    "f32_tp2": Training("--dtype=f32 --mesh=tp=2"),
    "f32_pp2": Training("--dtype=f32 --mesh=pp=2 --microbatches=2"),
    "f32_pp2_gpipe": Training(
        "--dtype=f32 --mesh=pp=2 --schedule=gpipe --microbatches=4 --recompute=full"
    ),
    "f32_pp2_interleaved": Training(
        "--dtype=f32 --mesh=pp=2 --schedule=interleaved --microbatches=4", layers=4
    ),
    "f32_pp2_zero_bubble": Training(
        "--dtype=f32 --mesh=pp=2 --schedule=zero-bubble --microbatches=4"
    ),
    "f32_dp2_zero1": Training("--dtype=f32 --mesh=dp=2 --zero=1 --microbatches=2"),
    "f32_dp2_zero2_sft": Training(
        "--dtype=f32 --mesh=dp=2 --zero=2 --microbatches=2 --objective=sft"
    ),
    "f32_dp2_zero3": Training("--dtype=f32 --mesh=dp=2 --zero=3"),
    "bf16_tp2": Training("--dtype=bf16 --mesh=tp=2"),
    "f32_pp4": Training("--dtype=f32 --mesh=pp=4 --microbatches=4", layers=4),
    "f32_tp2_dp2": Training("--dtype=f32 --mesh=tp=2,dp=2"),
    "f32_pp2_dp2_dpo": Training(
        "--dtype=f32 --mesh=pp=2,dp=2 --zero=2 --microbatches=2 --objective=dpo", batch=8
    ),
    "bf16_tp2_dp2": Training("--dtype=bf16 --mesh=tp=2,dp=2"),
    "bf16_pp2_dp2_zero1_sft": Training(
        "--dtype=bf16 --mesh=pp=2,dp=2 --zero=1 --microbatches=2 --objective=sft"
    ),
}
# Those that are also ended after five steps and resumed.
RESUMED = ("f32", "bf16", "f32_dpo", "f32_pp2_interleaved", "f32_dp2_zero2_sft")


# A model that has learned the suite's texts, among its data, and plans that generate with
# it: several sequences in flight, of prompts that are longer than a chunk.
TEXT_MODEL, TEXT_STEPS = "text-model", 400
TEXT_OPTIONS = "--seq=64 --chunk=16"
TEXTS = {
    "f32": "--dtype=f32 --batch=3",
    "bf16": "--dtype=bf16 --batch=3",
    "f32_tp2": "--dtype=f32 --mesh=tp=2 --batch=2",
    "f32_pp2": "--dtype=f32 --mesh=pp=2 --batch=3",
    "f32_dp2_zero3": "--dtype=f32 --mesh=dp=2 --zero=3 --batch=2",
    "f32_tp2_dp2": "--dtype=f32 --mesh=tp=2,dp=2 --batch=1",
}


class PackError(Exception):
    pass


class Compiler:
    """Compiles plans into `folder`, or takes them from `old`, an unpacked suite."""

    def __init__(self, llmc, folder, old=None):
        self.llmc, self.folder = llmc, folder
        self.refused, self.made_of, self.per_layer = {}, {}, {}
        self.old = pathlib.Path(old) if old else None
        self.known = read_manifest(self.old) if old else {}
        self.llmc_digest = hashlib.sha256(pathlib.Path(llmc).read_bytes()).hexdigest()
        self.num_taken = 0

    def plan(self, name, model, options):
        """`model`: a file or folder, or the text of llmc import --new."""
        self.made_of[name] = self.digest(model, options)
        if self.take(name):
            return
        path = self.model(model) if isinstance(model, str) else model
        self.compile(path, self.folder / name, options.split())

    def digest(self, model, options):
        parts = [self.llmc_digest, options]
        parts += [model] if isinstance(model, str) else map(file_digest, files_of(model))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def take(self, name):
        """True if the old suite has the very plan, or knows why there is none."""
        if self.known.get("made_of", {}).get(name) != self.made_of[name]:
            return False
        if name in self.known["refused"]:
            self.refused[name] = self.known["refused"][name]
        elif (self.old / "plans" / name).is_file():
            if self.old / "plans" != self.folder:
                shutil.copy(self.old / "plans" / name, self.folder / name)
        else:
            return False
        self.num_taken += 1
        return True

    def model(self, shape):
        model = self.folder / "model.mlir"
        command = [str(self.llmc), "import", f"--new={shape}", "-o", str(model)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise PackError(f"llmc import --new={shape}: {done.stderr.strip()}")
        return model

    def compile(self, model, plan, options):
        command = [self.llmc, "compile", model, "-o", plan, *options]
        done = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, errors="replace"
        )
        if done.returncode == 0:
            return True
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        code = [line for line in said if "LLMC-E" in line]
        reason = (code or said or ["llmc failed"])[0]
        self.refused[plan.name] = reason[reason.find("LLMC-E") :] if code else reason
        print(f"{plan.name}: refused: {self.refused[plan.name]}")
        return False

    def count_launches(self, name, shape, layers, options):
        """Launches of a decoded token per layer: by a plan of half the layers."""
        known = self.known.get("decode_kernels_per_layer", {})
        if self.known.get("made_of", {}).get(name) == self.made_of[name] and name in known:
            self.per_layer[name] = known[name]
            return
        self.per_layer[name] = None
        whole, half = self.folder / name, self.folder / "half.fb"
        if name in self.refused or not decode_launches(self.llmc, whole):
            return
        model = self.model(shape.format(layers=layers // 2))
        if self.compile(model, half, options.split()):
            more = decode_launches(self.llmc, whole) - decode_launches(self.llmc, half)
            self.per_layer[name] = more / (layers - layers // 2)
        self.refused.pop("half.fb", None)

    def manifest(self):
        for name in ("half.fb", "model.mlir"):
            (self.folder / name).unlink(missing_ok=True)
        print(f"{self.num_taken} of {len(self.made_of)} plans are those of before")
        return {
            "refused": self.refused,
            "decode_kernels_per_layer": self.per_layer,
            "made_of": self.made_of,
        }


def read_manifest(folder):
    try:
        return json.loads((folder / "manifest.json").read_text())
    except OSError:
        return {}


def files_of(path):
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def file_digest(path):
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def compile_plans(root, programs, llmc, folder, old=None):
    """Compiles all plans into a folder. Returns {"refused": {plan: reason}, ...}."""
    folder.mkdir(parents=True, exist_ok=True)
    compiler = Compiler(llmc, folder, old)
    # Until it is written again it does not say what is there.
    (folder.parent / "manifest.json").unlink(missing_ok=True)
    for name, fixture, options in listed_plans(programs):
        compiler.plan(name, root / fixture, options)
    for name, shape, layers, options in MEASURED_PLANS:
        options = f"{TARGET} {options}"
        compiler.plan(name, shape.format(layers=layers), options)
        compiler.count_launches(name, shape, layers, options)
    compiler.plan("1b-cpu.fb", LLAMA_1B.format(layers=16), PARITY_OPTIONS)
    compile_trainings(compiler)
    compile_texts(compiler, programs / "llmrt")
    return {**compiler.manifest(), "revision": revision(root)}


def compile_trainings(compiler):
    for name, case in TRAININGS.items():
        for target in ("cpu", "cuda"):
            compiler.plan(
                f"train_{name}.{target}.fb",
                TRAINED.format(layers=case.layers),
                training_options(target, case),
            )


def training_options(target, case):
    return f"--target={target} {case.options} {TRAINED_OPTIONS} --batch={case.batch}"


def text_options(target, own):
    return f"--target={target} {own} {TEXT_OPTIONS}"


def compile_texts(compiler, llmrt):
    model = compiler.folder.parent / "data" / TEXT_MODEL
    teach(llmrt, compiler.folder / "train_f32.cpu.fb", model)
    for name, own in TEXTS.items():
        for target in ("cpu", "cuda"):
            if target == "cuda" or "--mesh" not in own:
                compiler.plan(f"text_{name}.{target}.fb", model, text_options(target, own))


def teach(llmrt, plan, model):
    """Makes the model: same plan, same data, same bytes."""
    data = model.parent
    shutil.rmtree(model, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        for command in (
            [
                llmrt, "run", plan, "--weights=random:1", f"--data={data}/data.jsonl",
                f"--data-cache={work}", f"--tokenizer={data}/tokenizer.json", "--quiet",
                f"--steps={TEXT_STEPS}", "--learning-rate=3e-3", f"--checkpoint-dir={work}/run",
            ],
            [llmrt, "export", f"{work}/run", "-o", model],
        ):  # fmt: skip
            done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
            if done.returncode != 0:
                raise PackError(f"llmrt {command[1]}: {done.stderr.strip()}")


def listed_plans(programs):
    """(plan, model or its folder, options) of the cases of plans-gpu-test."""
    program = programs / "plans-gpu-test"
    if not program.is_file():
        return []
    done = subprocess.run(
        [str(program), "--list-plans"], capture_output=True, text=True, check=True
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


def decode_launches(llmc, plan):
    done = subprocess.run(
        [str(llmc), "inspect", str(plan), "--output=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)["counters"].get("entries.decode.launches")


def revision(root):
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "unknown"
