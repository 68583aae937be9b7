# SPDX-License-Identifier: Apache-2.0
"""Makes the file that check and measure need on a machine with nothing but a driver:
programs of the preset `portable`, stripped; plans; fixtures; the suite itself."""
import contextlib
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

from gpusuite.plans import PackError, compile_plans

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
# All programs have the same kernels inside, some 25 MiB apart: with a dictionary that
# reaches from one to the next, only the first one's count.
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 128 << 20}]
# Text to train on, which this repository has.
TEXTS = "docs/design/*.md"
# A trained model that is not in this repository: taken along from $LLMC_TEST_DATA.
STORIES = "stories260K"
GOLDEN_STORY = ("golden_greedy.json", "golden_logits_first16.f32")
# Lines of it that become samples and pairs: several samples in a sequence of 64 tokens.
LETTERS_OF_SAMPLES, NUM_SAMPLES, NUM_PAIRS = (40, 120), 120, 48


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
        old = unpack(options.plans, pathlib.Path(work) / "old")
        make_data(root, folder / "data")
        manifest = compile_plans(root, folder / "bin", llmc, folder / "plans", old)
        manifest["needs_glibc"] = newest_glibc(folder / "bin")
        copy_sources(root, folder)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        report_sizes(folder)
        write_archive(folder, pathlib.Path(options.out), options.most_mebibytes)
    print(f"wrote {options.out}; there: tar xf, then gpu-suite/tools/gpu-suite check")
    return 0


def write_archive(folder, path, most_mebibytes):
    """A tar, compressed as the name's ending says: .gz or .xz."""
    with contextlib.ExitStack() as stack:
        if path.suffix == ".xz":
            file = stack.enter_context(lzma.open(path, "w", filters=XZ))
            archive = stack.enter_context(tarfile.open(fileobj=file, mode="w|"))
        else:
            kind = "gz" if path.suffix == ".gz" else ""
            archive = stack.enter_context(tarfile.open(path, f"w:{kind}"))
        archive.add(folder, "gpu-suite")
    size = path.stat().st_size
    print(f"{size / 2**20:8.1f} MiB  {path.name}")
    if size > most_mebibytes * 2**20:
        path.unlink()
        raise PackError(
            f"that is more than {most_mebibytes:g} MiB: end the name in .tar.xz, or "
            "allow more (--most-mebibytes)"
        )


def unpack(path, folder):
    """Plans and manifest of an older suite: an archive, or where one was unpacked."""
    if not path or pathlib.Path(path).is_dir():
        return path
    wanted = ("gpu-suite/manifest.json", "gpu-suite/plans/")
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.startswith(wanted):
                archive.extract(member, folder)
    return folder / "gpu-suite"


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
    texts = [path.read_text() for path in texts]
    samples = list(make_samples("\n".join(texts)))
    write_lines(folder / "data.jsonl", [{"text": text} for text in texts])
    write_lines(folder / "sft.jsonl", samples)
    write_lines(folder / "pairs.jsonl", make_pairs(samples))


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def make_samples(text):
    """Lines of a text, of which the first part asks and the rest answers."""
    least, most = LETTERS_OF_SAMPLES
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if least <= len(line) <= most][:NUM_SAMPLES]
    for i, line in enumerate(lines):
        cut = 10 + 7 * i % 25
        yield {"prompt": line[:cut], "completion": line[cut:]}


def make_pairs(samples):
    """The right answer over another sample's."""
    samples, others = samples[:NUM_PAIRS], samples[1:]
    return [
        {"prompt": s["prompt"], "chosen": s["completion"], "rejected": o["completion"]}
        for s, o in zip(samples, others)
    ]


def copy_sources(root, folder):
    """The suite itself, and the models that tests load."""
    copy_stories(folder / "data" / STORIES)
    skip = shutil.ignore_patterns("__pycache__", "training", "*.py")
    shutil.copytree(root / "tests/fixtures", folder / "tests/fixtures", ignore=skip)
    (folder / "tools").mkdir()
    shutil.copy(root / "tools/gpu-suite", folder / "tools/gpu-suite")
    shutil.copytree(
        root / "tools/gpusuite",
        folder / "tools/gpusuite",
        ignore=shutil.ignore_patterns("__pycache__"),
    )


def copy_stories(folder):
    stories = pathlib.Path(os.environ.get("LLMC_TEST_DATA", "")) / STORIES
    for name in ("hf/config.json", "hf/model.safetensors", *GOLDEN_STORY):
        if (stories / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stories / name, folder / name)


def report_sizes(folder):
    total = 0
    for part in sorted(folder.iterdir()):
        files = [part] if part.is_file() else [f for f in part.rglob("*") if f.is_file()]
        size = sum(f.stat().st_size for f in files)
        total += size
        print(f"{size / 2**20:8.1f} MiB  {part.name}, {len(files)} files")
    print(f"{total / 2**20:8.1f} MiB  together")
