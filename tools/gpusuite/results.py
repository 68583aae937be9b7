# SPDX-License-Identifier: Apache-2.0
"""Items of one part, one after the other within a time budget, and their results.

An item is a name and a function that takes a Budget and returns numbers, or raises
Skipped or Failed. Whatever one item does, the next one runs. The file of results is
replaced after each item, so that it is whole at any time and a killed run leaves what it
knew: what had not ended is "running" or "not run" in it.
"""
import datetime
import json
import os
import pathlib
import time
import traceback

FORMAT = 1


class Skipped(Exception):
    """The item cannot run here: the reason."""


class Failed(Exception):
    """The item ran, and something is wrong: what, and what was measured before."""

    def __init__(self, reason, numbers=None):
        super().__init__(reason)
        self.numbers = numbers or {}


class Item:
    """`needs`: seconds without which it is not begun; `most`: seconds it may take."""

    def __init__(self, name, run, needs=1, most=120):
        self.name, self.run, self.needs, self.most = name, run, needs, most


class Budget:
    """How long an item may take; partial() keeps numbers before it ends."""

    def __init__(self, seconds, partial):
        self.ends = time.monotonic() + seconds
        self.partial = partial

    def left(self):
        return max(0.0, self.ends - time.monotonic())


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class Results:
    def __init__(self, path, part, minutes):
        self.path, self.part = pathlib.Path(path), part
        self.minutes = minutes
        self.ends = time.monotonic() + 60 * minutes
        self.machine, self.items = {}, []
        self.began = now()

    def run(self, items, suite, only=None):
        """Runs all items; without a GPU none, and each is skipped with the reason."""
        wanted = only.split(",") if only else [""]
        chosen = [i for i in items if any(text in i.name for text in wanted)]
        self.items = [{"name": i.name, "status": "not run"} for i in chosen]
        self.write()
        self.machine, missing = suite.machine()
        self.write()
        for item, result in zip(chosen, self.items):
            self.run_item(item, result, missing)
        self.write(is_done=True)

    def run_item(self, item, result, missing):
        left = self.ends - time.monotonic()
        if missing:
            return self.end(result, "skipped", missing)
        if left < item.needs:
            return self.end(
                result,
                "skipped",
                f"{left:.0f} s of {self.minutes:g} minutes were left, it needs "
                f"{item.needs} s",
            )

        def partial(numbers):
            result.setdefault("numbers", {}).update(numbers)
            self.write()

        result["status"] = "running"
        self.write()
        began = time.monotonic()
        budget = Budget(min(left, item.most), partial)
        try:
            numbers = item.run(budget) or {}
            status, reason = "ok", ""
        except Skipped as skipped:
            status, reason, numbers = "skipped", str(skipped), {}
        except Failed as failed:
            status, reason, numbers = "failed", str(failed), failed.numbers
        except Exception as error:  # a bug of the suite must not stop the rest
            traceback.print_exc()
            status, reason, numbers = "failed", f"the suite itself: {error!r}", {}
        result["seconds"] = round(time.monotonic() - began, 2)
        if numbers:
            result.setdefault("numbers", {}).update(numbers)
        return self.end(result, status, reason)

    def end(self, result, status, reason):
        result["status"] = status
        if reason:
            result["reason"] = reason
        print(f"{status:8}{result['name']}  {reason}", flush=True)
        self.write()

    def numbers(self, name):
        """Numbers of an item that has ended well, or {}."""
        for result in self.items:
            if result["name"] == name and result["status"] == "ok":
                return result.get("numbers", {})
        return {}

    def has_failures(self):
        return any(r["status"] == "failed" for r in self.items)

    def write(self, is_done=False):
        """Replaces this part in the file; the other part's results stay."""
        try:
            everything = json.loads(self.path.read_text())
        except (OSError, ValueError):
            everything = {}
        if everything.get("format") != FORMAT:
            everything = {"format": FORMAT}
        everything[self.part] = {
            "began": self.began,
            "written": now(),
            "is_done": is_done,
            "minutes": self.minutes,
            "machine": self.machine,
            "items": self.items,
        }
        temporary = self.path.with_name(self.path.name + ".part")
        temporary.write_text(json.dumps(everything, indent=1) + "\n")
        os.replace(temporary, self.path)

    def table(self):
        width = max([len(r["name"]) for r in self.items], default=0)
        lines = [f"{self.part}: " + describe(self.machine)]
        for result in self.items:
            told = ", ".join(
                f"{name} {shown(value)}"
                for name, value in result.get("numbers", {}).items()
            )
            why = result.get("reason", "")
            lines.append(
                f"{result['name']:{width}}  {result['status']:8}"
                f"{why}{'; ' if why and told else ''}{told}".rstrip()
            )
        count = {}
        for result in self.items:
            count[result["status"]] = count.get(result["status"], 0) + 1
        lines.append(", ".join(f"{n} {status}" for status, n in sorted(count.items())))
        return "\n".join(lines)


def describe(machine):
    return ", ".join(f"{k} {v}" for k, v in machine.items()) or "machine not known"


def shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
