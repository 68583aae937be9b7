# SPDX-License-Identifier: Apache-2.0
"""The machine with the GPU: what it is, where its CUDA libraries are, what the GPU does
at the moment. Nothing here changes a setting."""
import glob
import json
import os
import pathlib
import platform
import shutil
import time

from gpusuite.results import Failed

EXIT_SKIPPED = 77
# A driver may still be starting when the machine is given to us.
PROBES, SECONDS_BETWEEN = 3, 5
WHAT_IT_IS = {
    "name": "gpu",
    "driver_version": "driver",
    "memory.total": "memory",
    "clocks.max.sm": "sm clock",
    "clocks.max.memory": "memory clock",
}
WHAT_IT_DOES = {
    "clocks.sm": "sm_clock",
    "clocks.mem": "memory_clock",
    "power.draw": "power",
    "temperature.gpu": "temperature",
    "clocks_event_reasons.active": "clock_limits",
}
# Where a toolkit has its libraries, before those of Python's packages.
TOOLKIT = ("/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/x86_64-linux/lib")
# Prints the folders of Python's packages of CUDA libraries.
FIND_PACKAGES = (
    "import importlib.util as u; s = u.find_spec('nvidia'); "
    "print('\\n'.join(s.submodule_search_locations if s else []))"
)
DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia[0-9]*")


def query(suite, fields):
    """What nvidia-smi says of the first GPU, by our names for `fields`, or {}."""
    smi = shutil.which("nvidia-smi")
    if not smi:
        return {}
    asked = f"--query-gpu={','.join(fields)}"
    done = suite.run([smi, asked, "--format=csv,noheader"], 30)
    if done.code != 0 or not done.output.strip():
        return {}
    values = done.output.splitlines()[0].split(",")
    return dict(zip(fields.values(), [v.strip() for v in values]))


def describe(suite):
    """What this machine is, and what keeps the suite from running on it: only that there
    is no GPU or no driver. With any other trouble each item will say what is wrong."""
    machine = {"cpu": cpu_name(), "cores": os.cpu_count()}
    machine.update(query(suite, WHAT_IT_IS))
    try:
        program = suite.program("gpu-ceilings")
    except Failed:
        return machine, None
    for left in reversed(range(PROBES)):
        done = suite.run([program, "--probe"], 60)
        if done.code == EXIT_SKIPPED:
            return machine, json.loads(done.output)["skipped"]
        if done.code == 0:
            return {**json.loads(done.output), **machine, **libraries(suite)}, None
        if left:
            time.sleep(SECONDS_BETWEEN)
    machine["probe"] = done.why("gpu-ceilings --probe")
    return {**machine, **libraries(suite)}, None


def libraries(suite):
    """Which cuBLASLt and NCCL the programs find: version and file."""
    try:
        lines = suite.run([suite.program("llmrt"), "env"], 60).output.splitlines()
    except Failed:
        return {}
    said = [line.split(None, 1) for line in lines if line.startswith(("cublaslt ", "nccl "))]
    return {words[0]: words[1] for words in said if len(words) == 2}


def library_folders(python):
    """Where CUDA libraries may be, besides where the loader looks anyway."""
    found = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(":") if f]
    for pattern in TOOLKIT:
        found += sorted(glob.glob(pattern))
    for packages in python_packages(python):
        found += sorted(glob.glob(packages + "/lib") + glob.glob(packages + "/*/lib"))
    return found


def python_packages(python):
    from gpusuite.processes import run_program

    try:
        done = run_program([python, "-c", FIND_PACKAGES], 30, None, dict(os.environ))
    except OSError:
        return []
    return [line for line in done.output.splitlines() if pathlib.Path(line).is_dir()]


class HeldDevice:
    """Keeps the GPU's device files open. A driver that nobody uses starts the GPU afresh
    for each process, 1 to 3 seconds, where no daemon keeps it."""

    def __init__(self):
        self.files = []

    def hold(self):
        for path in sorted(sum(map(glob.glob, DEVICE_FILES), [])):
            try:
                self.files.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            except OSError:
                pass  # it costs time only

    def release(self):
        while self.files:
            os.close(self.files.pop())


def cpu_name():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
