# SPDX-License-Identifier: Apache-2.0
"""Makes the file that check and measure need on a machine with nothing but a driver:
programs of the preset `portable`, stripped; plans; fixtures; the suite itself."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

PROGRAMS = (
    "llmrt",
    "gpu-ceilings",
    "kernels-cuda-test",
    "device-gpu-test",
    "communicator-gpu-test",
    "plans-gpu-test",
)
# What any machine with a driver has.
ALLOWED_LIBRARIES = re.compile(
    r"^(libc|libm|libdl|libpthread|librt|ld-linux-x86-64)\.so\.\d+$"
)
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
# Of `check`: ten training steps, for cuda and for cpu.
TRAINED = "llama,layers=2,hidden=128,heads=4,kv_heads=2,intermediate=256,vocab=512,context=64"
TRAINED_OPTIONS = "--mode=train --seq=64 --batch=4"
# Name: options. Ranks of a mesh are threads that share the GPU.
TRAININGS = {
    "f32": "--dtype=f32",
    "bf16": "--dtype=bf16",
    "f32_tp2": "--dtype=f32 --mesh=tp=2",
    "f32_pp2": "--dtype=f32 --mesh=pp=2",
    "f32_dp2_zero3": "--dtype=f32 --mesh=dp=2 --zero=3",
    "f32_tp2_dp2": "--dtype=f32 --mesh=tp=2,dp=2",
}
# Text to train on, which this repository has.
TEXTS = "docs/design/*.md"


class PackError(Exception):
    pass


def run(root, options):
    try:
        return pack(root, options)
    except PackError as error:
        print(f"gpu-suite: {error}")
        return 1


def pack(root, options):
    if not options.no_build:
        build(root)
    llmc = pathlib.Path(options.llmc or root / "build/release/bin/llmc").resolve()
    if not llmc.is_file():
        raise PackError(f"there is no compiler {llmc}; build it, or name it with --llmc")
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work) / "gpu-suite"
        copy_programs(root / "build/portable/bin", folder / "bin")
        manifest = compile_plans(root, folder / "bin", llmc, folder / "plans")
        manifest["needs_glibc"] = newest_glibc(folder / "bin")
        make_data(root, folder / "data")
        copy_sources(root, folder)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        report_sizes(folder)
        write_archive(folder, pathlib.Path(options.out), options.most_mebibytes)
    print(f"wrote {options.out}; there: tar xf, then gpu-suite/tools/gpu-suite check")
    return 0


def write_archive(folder, path, most_mebibytes):
    """A tar, compressed as the name's ending says: .gz or .xz."""
    kind = path.suffix[1:] if path.suffix in (".gz", ".xz") else ""
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.add(folder, "gpu-suite")
    size = path.stat().st_size
    print(f"{size / 2**20:8.1f} MiB  {path.name}")
    if size > most_mebibytes * 2**20:
        path.unlink()
        raise PackError(
            f"that is more than {most_mebibytes:g} MiB: end the name in .tar.xz, or "
            "allow more (--most-mebibytes)"
        )


def build(root):
    for command in (
        ["cmake", "--preset", "portable"],
        ["cmake", "--build", "--preset", "portable", "--target", "gpu-suite"],
    ):
        if subprocess.run(command, cwd=root).returncode != 0:
            raise PackError(f"{' '.join(command)} failed")


def copy_programs(source, folder):
    folder.mkdir(parents=True)
    for name in PROGRAMS:
        if not (source / name).is_file():
            raise PackError(f"there is no {source / name}: build the target gpu-suite")
        copy = folder / name
        shutil.copy(source / name, copy)
        subprocess.run(["strip", str(copy)], check=True)
        refuse_foreign(name, needed_libraries(copy))


def refuse_foreign(name, libraries):
    foreign = [n for n in libraries if not ALLOWED_LIBRARIES.match(n)]
    if foreign:
        raise PackError(
            f"{name} needs {', '.join(foreign)}, which a machine may not have; "
            "link archives instead (LLMC_PORTABLE)"
        )


def needed_libraries(path):
    dynamic = subprocess.run(
        ["readelf", "-d", str(path)], capture_output=True, text=True, check=True
    ).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)


def newest_glibc(folder):
    """The version of the C library that the programs need at least."""
    versions = set()
    for path in sorted(folder.iterdir()):
        symbols = subprocess.run(
            ["readelf", "-V", str(path)], capture_output=True, text=True, check=True
        ).stdout
        versions |= set(re.findall(r"GLIBC_(\d+)\.(\d+)", symbols))
    return ".".join(map(str, max((int(a), int(b)) for a, b in versions)))


def compile_plans(root, programs, llmc, folder):
    """Compiles all plans into a folder. Returns {"refused": {plan: reason}, ...}."""
    folder.mkdir(parents=True, exist_ok=True)
    refused, per_layer = {}, {}
    model = folder / "model.mlir"
    for line in listed_plans(programs):
        name, fixture, options = line.split("\t")
        compile_plan(llmc, root / fixture, folder / name, options.split(), refused)
    for name, shape, layers, options in MEASURED_PLANS:
        options = [TARGET, *options.split()]
        launches = {}
        for count in (layers, layers // 2):
            plan = folder / (name if count == layers else "half.fb")
            import_model(llmc, shape.format(layers=count), model)
            if not compile_plan(llmc, model, plan, options, refused):
                break
            launches[count] = decode_launches(llmc, plan)
        if all(launches.get(n) for n in (layers, layers // 2)):
            per_layer[name] = (launches[layers] - launches[layers // 2]) / (
                layers - layers // 2
            )
        refused.pop("half.fb", None)
    import_model(llmc, TRAINED, model)
    for name, own in TRAININGS.items():
        for target in ("cpu", "cuda"):
            options = f"--target={target} {own} {TRAINED_OPTIONS}"
            plan = folder / f"train_{name}.{target}.fb"
            compile_plan(llmc, model, plan, options.split(), refused)
    for name in ("half.fb", "model.mlir"):
        (folder / name).unlink(missing_ok=True)
    manifest = {"refused": refused, "decode_kernels_per_layer": per_layer}
    manifest["revision"] = revision(root)
    return manifest


def import_model(llmc, shape, model):
    done = subprocess.run(
        [str(llmc), "import", f"--new={shape}", "-o", str(model)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise PackError(f"llmc import --new={shape}: {done.stderr.strip()}")


def make_data(root, folder):
    """A tokenizer and training data, from the texts of this repository."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = sorted(root.glob(TEXTS))
    subprocess.run(
        [
            sys.executable,
            str(root / "tools/make-tokenizer.py"),
            "--vocabulary=512",
            "-o",
            str(folder / "tokenizer.json"),
            *map(str, texts),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lines = [json.dumps({"text": path.read_text()}) + "\n" for path in texts]
    (folder / "data.jsonl").write_text("".join(lines))


def listed_plans(programs):
    program = programs / "plans-gpu-test"
    if not program.is_file():
        return []
    done = subprocess.run(
        [str(program), "--list-plans"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def compile_plan(llmc, model, plan, options, refused):
    command = [llmc, "compile", model, "-o", plan, *options]
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        code = [line for line in said if "LLMC-E" in line]
        reason = (code or said or ["llmc failed"])[0]
        refused[plan.name] = reason[reason.find("LLMC-E") :] if code else reason
        print(f"{plan.name}: refused: {refused[plan.name]}")
    return done.returncode == 0


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


def copy_sources(root, folder):
    """The suite itself, and the models that tests load."""
    skip = shutil.ignore_patterns("__pycache__", "training", "*.py", "*gguf")
    shutil.copytree(root / "tests/fixtures", folder / "tests/fixtures", ignore=skip)
    (folder / "tools").mkdir()
    shutil.copy(root / "tools/gpu-suite", folder / "tools/gpu-suite")
    shutil.copytree(
        root / "tools/gpusuite",
        folder / "tools/gpusuite",
        ignore=shutil.ignore_patterns("__pycache__"),
    )


def report_sizes(folder):
    total = 0
    for part in sorted(folder.iterdir()):
        files = [part] if part.is_file() else [f for f in part.rglob("*") if f.is_file()]
        size = sum(f.stat().st_size for f in files)
        total += size
        print(f"{size / 2**20:8.1f} MiB  {part.name}, {len(files)} files")
    print(f"{total / 2**20:8.1f} MiB  together")
