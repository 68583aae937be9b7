# SPDX-License-Identifier: Apache-2.0
"""The programs, plans and data of the suite, packed or in a build tree, and how its
programs are run."""
import json
import os
import pathlib
import tempfile

from gpusuite import machine
from gpusuite.machine import EXIT_SKIPPED
from gpusuite.processes import Log, run_program
from gpusuite.results import Failed, Skipped

MADE = "build/gpu-suite"


class Suite:
    def __init__(self, root, options):
        self.root, self.options = pathlib.Path(root), options
        self.manifest = self.read_manifest()
        self.is_packed = bool(self.manifest)
        self.bin = self.find_bin()
        log = pathlib.Path(options.results).with_suffix(f".{options.command}.log")
        self.log = Log(log, is_continued=bool(options.only))
        self.device = machine.HeldDevice()
        # What one program of a part has tuned, the next ones find; nothing of before.
        self.cache = tempfile.TemporaryDirectory()
        self.library_path = ":".join(machine.library_folders(options.python))

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
        from gpusuite import pack, plans

        made = self.root / MADE
        pack.make_data(self.root, made / "data")
        self.manifest = plans.compile_plans(
            self.root, self.bin, self.llmc(), made / "plans", old=made
        )
        (made / "manifest.json").write_text(json.dumps(self.manifest, indent=1) + "\n")
        return made

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
        return {
            **os.environ,
            "LLMC_SOURCE_DIR": str(self.root),
            "LLMC_BIN_DIR": str(self.bin),
            "LD_LIBRARY_PATH": self.library_path,
            "XDG_CACHE_HOME": self.cache.name,
            **({"LLMC_TEST_DATA": str(self.root / "data")} if self.is_packed else {}),
        }

    def run(self, command, seconds, on_line=None, environment=None, variables=None):
        """Runs a program; its whole group ends when the time is over. `variables` are
        set besides those of `environment`, by default that of our programs."""
        environment = self.environment() if environment is None else environment
        self.log.command(command, variables)
        done = run_program(command, seconds, on_line, {**environment, **(variables or {})})
        self.log.end(done)
        return done

    def machine(self):
        """What this machine is, and what keeps the suite from running on it."""
        self.log.begin("machine")
        self.device.hold()
        return machine.describe(self)

    def gpu_state(self):
        """Clocks, power and what limits them, beside what is measured."""
        if self.options.command != "measure":
            return {}
        return {"gpu_state": machine.query(self, machine.WHAT_IT_DOES)}

    def json(self, command, seconds):
        """What a program prints as JSON."""
        done = self.run(command, seconds)
        name = pathlib.Path(command[0]).name
        try:
            value = json.loads(done.output)
        except ValueError:
            raise Failed(done.why(name), hung=done.timed_out)
        if done.code == EXIT_SKIPPED:
            raise Skipped(value.get("skipped", "no reason given"))
        return value, done
