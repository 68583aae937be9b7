# SPDX-License-Identifier: Apache-2.0
"""The machine, the programs, and how they are run: each in a process group of its own
that does not outlive its time."""
import glob
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import tempfile

from gpusuite.results import Failed, Skipped

EXIT_SKIPPED = 77
MADE = "build/gpu-suite"


class Done:
    def __init__(self, code, output, errors, timed_out):
        self.code, self.output, self.errors = code, output, errors
        self.timed_out = timed_out

    def why(self, name):
        """The end of what it said."""
        text = (self.errors.strip() or self.output.strip()).splitlines()
        said = " | ".join(text[-3:])[-500:]
        if self.timed_out:
            return f"{name} took too long and was ended; {said}"
        if self.code < 0:
            return f"{name} died of signal {-self.code}; {said}"
        return f"{name} ended with status {self.code}; {said}"


class Suite:
    def __init__(self, root, options):
        self.root, self.options = pathlib.Path(root), options
        self.manifest = self.read_manifest()
        self.is_packed = bool(self.manifest)
        self.bin = self.find_bin()

    def read_manifest(self):
        try:
            return json.loads((self.root / "manifest.json").read_text())
        except OSError:
            return {}  # in a build tree

    def find_bin(self):
        if self.options.bin:
            return pathlib.Path(self.options.bin).resolve()
        folders = ["bin", "build/portable/bin", "build/release/bin"]
        for folder in folders:
            if (self.root / folder / "llmrt").is_file():
                return self.root / folder
        return self.root / folders[0]

    def program(self, name):
        path = self.bin / name
        if not path.is_file():
            raise Failed(f"there is no {path}: build the target gpu-suite")
        return path

    def folder(self):
        """Where plans and data are. In a build tree they are made when first asked for."""
        if "refused" in self.manifest:
            return self.root if self.is_packed else self.root / MADE
        from gpusuite import pack

        pack.make_data(self.root, self.root / MADE / "data")
        self.manifest = pack.compile_plans(
            self.root, self.bin, self.llmc(), self.root / MADE / "plans"
        )
        return self.root / MADE

    def data(self):
        return self.folder() / "data"

    def kernels_per_layer(self, plan):
        self.folder()
        return self.manifest.get("decode_kernels_per_layer", {}).get(plan)

    def llmc(self):
        given = self.options.llmc
        built = [self.bin / "llmc", self.root / "build/release/bin/llmc"]
        for path in [given] if given else built:
            if pathlib.Path(path).is_file():
                return pathlib.Path(path).resolve()
        raise Skipped("there are no plans here, and no llmc to compile them (--llmc)")

    def plan(self, name):
        path = self.folder() / "plans" / name
        refused = self.manifest["refused"]
        if name in refused:
            raise Skipped(f"no plan {name}: {refused[name]}")
        if not path.is_file():
            raise Failed(f"there is no plan {path}")
        return path

    def environment(self):
        """With the CUDA libraries that came with PyTorch, if there are no others."""
        environment = dict(os.environ)
        environment["LLMC_SOURCE_DIR"] = str(self.root)
        environment["LLMC_BIN_DIR"] = str(self.bin)
        found = environment.get("LD_LIBRARY_PATH", "").split(":")
        found += glob.glob("/usr/local/cuda*/lib64")
        # Not resolved: the Python of a virtual environment is a link.
        prefix = pathlib.Path(self.options.python).absolute().parent.parent
        for packages in glob.glob(f"{prefix}/lib/python3*/*-packages/nvidia"):
            found += glob.glob(packages + "/*/lib")
        environment["LD_LIBRARY_PATH"] = ":".join(f for f in found if f)
        return environment

    def run(self, command, seconds, on_line=None, environment=None):
        """Runs a program; its whole group ends when the time is over."""
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [str(c) for c in command],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                env=self.environment() if environment is None else environment,
                start_new_session=True,
            )
            output, timed_out = follow(process, seconds, on_line)
            errors.seek(0)
            return Done(process.returncode, output, errors.read(), timed_out)

    def machine(self):
        """What this machine is, and what keeps the suite from running on it."""
        machine = {"cpu": cpu_name(), "cores": os.cpu_count()}
        smi = shutil.which("nvidia-smi")
        if smi:
            asked = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory"
            done = self.run([smi, f"--query-gpu={asked}", "--format=csv,noheader"], 30)
            if done.code == 0 and done.output.strip():
                names = ["gpu", "driver", "memory", "sm clock", "memory clock"]
                values = done.output.splitlines()[0].split(",")
                machine.update(zip(names, [v.strip() for v in values]))
        try:
            done = self.run([self.program("gpu-ceilings"), "--probe"], 60)
        except Failed:
            return machine, None  # each item will say so
        if done.code == EXIT_SKIPPED:
            return machine, json.loads(done.output)["skipped"]
        if done.code != 0:
            return machine, "no GPU/driver: " + done.why("gpu-ceilings --probe")
        return {**json.loads(done.output), **machine, **self.told_by_llmrt()}, None

    def told_by_llmrt(self):
        """Which cuBLASLt it found."""
        try:
            lines = self.run([self.program("llmrt"), "env"], 60).output.splitlines()
        except Failed:
            return {}
        said = [line.split(None, 1) for line in lines if line.startswith("cublaslt ")]
        return {words[0]: words[1] for words in said if len(words) == 2}

    def json(self, command, seconds):
        """What a program prints as JSON."""
        done = self.run(command, seconds)
        name = pathlib.Path(command[0]).name
        try:
            value = json.loads(done.output)
        except ValueError:
            raise Failed(done.why(name))
        if done.code == EXIT_SKIPPED:
            raise Skipped(value.get("skipped", "no reason given"))
        return value, done


def follow(process, seconds, on_line):
    """Reads the output until the end; ends the group after `seconds`."""
    import threading

    lines, timed_out = [], threading.Event()

    def end():
        timed_out.set()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if on_line:
                on_line(line)
        process.wait()
    finally:
        timer.cancel()
        process.stdout.close()
        if process.poll() is None:
            end()
            process.wait()
    return "".join(lines), timed_out.is_set()


def cpu_name():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
