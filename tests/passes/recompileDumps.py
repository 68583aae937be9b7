# SPDX-License-Identifier: Apache-2.0
"""Same input, same plan bytes: a model compiled in two folders, and each numbered dump
compiled from its phase, give the plan that the model gives. A dump with a line missing
never ends llmc by a signal, and never leaves a plan beside an error.

Usage: recompileDumps.py LLMC
"""

import os
import subprocess
import sys
import tempfile

MODEL = ("--new=llama,layers=3,hidden=36,heads=9,kv_heads=3,intermediate=68,"
         "vocab=127,context=256")
PHASES = ["model", "step", "sharded", "kernels", "plan"]
OPTIONS = [
    [],
    ["--mesh=tp=3", "--batch=2"],
    ["--mesh=dp=2,pp=2,tp=2", "--zero=3", "--dtype=bf16"],
    ["--mesh=dp=3,pp=3", "--zero=3", "--sequence-parallel=false"],
    ["--disable=fuse-row-ops,fuse-slots", "--mesh=tp=2"],
]
STRIDE = 23  # of the lines that are left out

failures = []


def llmc(arguments, folder):
    return subprocess.run([sys.argv[1]] + arguments, cwd=folder,
                          capture_output=True, text=True, timeout=120)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def check(isRight, what):
    if not isRight:
        failures.append(what)
        print("FAILED", what)


def compileModel(folder, options):
    """Returns the plan's bytes; leaves dumps in folder/dumps."""
    os.makedirs(folder)
    llmc(["import", MODEL, "-o", "model.mlir"], folder)
    done = llmc(["compile", "model.mlir", "--chunk=12", "-o", "plan.fb",
                 "--dump-compilation-phases-to=dumps"] + options, folder)
    check(done.returncode == 0, f"{options}: {done.stderr}")
    return read(folder + "/plan.fb")


def dumpOf(folder, phase):
    return f"{folder}/dumps/0{PHASES.index(phase)}-{phase}.mlir"


def recompile(folder, phase, source, options):
    """Compiles a dump; passes are chosen by flags, all else is in the dump."""
    kept = options
    if phase != "model":
        kept = [o for o in options if o.startswith("--disable")]
    else:
        kept = options + ["--chunk=12"]
    return llmc(["compile", source, f"--compile-from={phase}", "-o",
                 "again.fb"] + kept, folder)


def compareDumps(folder, plan, options):
    for phase in PHASES:
        done = recompile(folder, phase, dumpOf(folder, phase), options)
        isSame = (done.returncode == 0 and
                  read(folder + "/again.fb") == plan)
        check(isSame, f"{options} from {phase}: {done.stderr}")


def leaveLinesOut(folder, options):
    for phase in PHASES:
        with open(dumpOf(folder, phase)) as file:
            lines = file.read().split("\n")
        for left in range(STRIDE // 2, len(lines), STRIDE):
            with open(folder + "/cut.mlir", "w") as file:
                file.write("\n".join(lines[:left] + lines[left + 1:]))
            if os.path.exists(folder + "/again.fb"):
                os.remove(folder + "/again.fb")
            done = recompile(folder, phase, "cut.mlir", options)
            what = f"{options}, {phase} without line {left}: {lines[left]}"
            check(done.returncode in (0, 1), what)
            if done.returncode == 1:
                check("LLMC-E" in done.stderr, what + done.stderr)
                check(not os.path.exists(folder + "/again.fb"), what)


def main():
    with tempfile.TemporaryDirectory() as root:
        for i, options in enumerate(OPTIONS):
            first = f"{root}/{i}/first"
            plan = compileModel(first, options)
            other = compileModel(f"{root}/{i}/a/longer/folder", options)
            check(plan == other, f"{options}: folders differ")
            compareDumps(first, plan, options)
            if i == 2:
                leaveLinesOut(first, options)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
