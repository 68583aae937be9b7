# SPDX-License-Identifier: Apache-2.0
"""Items of one part, one after the other within a time budget, and their results.

An item is a name and a function that takes a Budget and returns numbers, or raises
Skipped or Failed. Whatever one item does, the next one runs. The file of results is
replaced after each item, so that it is whole at any time and a killed run leaves what it
knew: what had not ended is "running" or "not run" in it.
"""
import collections
import datetime
import json
import math
import os
import pathlib
import time
import traceback

FORMAT = 1
# Items of one kind that may hang before the rest of the kind is given up: what hangs
# once mostly hangs again, and each costs its whole limit. Kernels share less.
MOST_HANGS = collections.defaultdict(lambda: 2, {"kernels": 4})
# What is printed: a reader may see the last 12000 characters only. The file and the log
# have all.
LINE, ALL_FAILURES = 200, 6000


class Skipped(Exception):
    """The item cannot run here: the reason."""


class Failed(Exception):
    """The item ran, and something is wrong: what, and what was measured before."""

    def __init__(self, reason, numbers=None, hung=False):
        super().__init__(reason)
        self.numbers, self.hung = numbers or {}, hung


class Item:
    """`needs`: seconds without which it is not begun; `most`: seconds it may take.
    `kind`: items that share their fate, see MOST_HANGS; `variants`: (what is different,
    run) of it, tried once its kind is given up, which say what hangs."""

    def __init__(self, name, run, needs=1, most=120, kind="", variants=()):
        self.name, self.run, self.needs, self.most = name, run, needs, most
        self.kind, self.variants = kind, variants


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
    """`only`: texts that names of items contain, separated by commas; the others keep
    what an earlier run on the same GPU and driver found."""

    def __init__(self, path, part, minutes, only=None):
        self.path, self.part, self.only = pathlib.Path(path), part, only
        self.minutes = minutes
        self.ends = time.monotonic() + 60 * minutes
        self.machine, self.items, self.earlier = {}, [], []
        self.hung = collections.defaultdict(list)  # names of items by kind
        self.has_gpu = True
        self.began = now()

    def run(self, items, suite):
        """Runs all items; without a GPU none, and each is skipped with the reason."""
        wanted = self.only.split(",") if self.only else [""]
        chosen = [i for i in items if any(text in i.name for text in wanted)]
        self.items = [{"name": i.name, "status": "not run"} for i in chosen]
        before = self.read().get(self.part, {})
        if not self.only:
            self.write()
        self.machine, missing = suite.machine()
        self.has_gpu = not missing
        if self.only:
            self.keep(before)
        self.write()
        left = collections.deque(zip(chosen, self.items))
        while left:
            item, result = left.popleft()
            suite.log.begin(item.name)
            self.run_item(item, result, missing)
            if result["status"] not in ("skipped", "not run"):
                result.update(suite.gpu_state())
            if self.is_given_up(item, result):
                left.extendleft(reversed(self.variants(item, result)))
        self.write(is_done=True)

    def keep(self, before):
        """Takes over what this run does not repeat, if it is of this GPU."""
        known = before.get("machine", {})
        if any(known.get(k) != self.machine.get(k) for k in ("gpu", "driver")):
            return
        own = {row["name"] for row in self.items}
        self.earlier = [r for r in before.get("items", []) if r["name"] not in own]

    def is_given_up(self, item, result):
        """True when this item was the last that its kind may hang."""
        if not item.kind or not result.get("hung"):
            return False
        self.hung[item.kind].append(item.name)
        return len(self.hung[item.kind]) == MOST_HANGS[item.kind]

    def variants(self, item, result):
        at = self.items.index(result) + 1
        made = []
        for what, run in item.variants:
            name = f"{item.name} {what}"
            made.append((Item(name, run, item.needs, item.most), {"name": name}))
        self.items[at:at] = [row for _, row in made]
        return made

    def run_item(self, item, result, missing):
        left = self.ends - time.monotonic()
        hung = self.hung[item.kind] if item.kind else []
        if missing:
            return self.end(result, "skipped", missing)
        if hung and len(hung) >= MOST_HANGS[item.kind]:
            return self.end(result, "skipped", f"{' and '.join(hung)} hung")
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
            if failed.hung:
                result["hung"] = True
        except Exception as error:  # a bug of the suite must not stop the rest
            traceback.print_exc()
            status, reason, numbers = "failed", f"the suite itself: {error!r}", {}
        result["seconds"] = round(time.monotonic() - began, 2)
        if numbers:
            result.setdefault("numbers", {}).update(numbers)
        return self.end(result, status, reason)

    def end(self, result, status, reason):
        result["status"], result["at"] = status, now()
        if reason:
            result["reason"] = reason
        print(f"{status:8}{result['name']}  {short(reason)}", flush=True)
        self.write()

    def row(self, name):
        """What is known of an item, from this run or an earlier one, or {}."""
        for result in self.items + self.earlier:
            if result["name"] == name:
                return result
        return {}

    def numbers(self, name):
        """Numbers of an item that has ended well, or {}."""
        row = self.row(name)
        return row.get("numbers", {}) if row.get("status") == "ok" else {}

    def has_failures(self):
        return any(r["status"] == "failed" for r in self.items)

    def read(self):
        try:
            everything = json.loads(self.path.read_text())
        except (OSError, ValueError):
            everything = {}
        return everything if everything.get("format") == FORMAT else {"format": FORMAT}

    def write(self, is_done=False):
        """Replaces this part in the file; the other part's results stay."""
        everything = self.read()
        everything[self.part] = {
            "began": self.began,
            "written": now(),
            "is_done": is_done,
            "minutes": self.minutes,
            "machine": self.machine,
            "items": [finite(row) for row in self.items + self.earlier],
        }
        temporary = self.path.with_name(self.path.name + ".part")
        temporary.write_text(json.dumps(everything, indent=1) + "\n")
        os.replace(temporary, self.path)

    def table(self):
        """A line for each item of this run, failures at length, then the counts."""
        width = max([len(r["name"]) for r in self.items], default=0)
        lines = [f"{self.part}: " + describe(self.machine)]
        for result in self.items:
            told = ", ".join(
                f"{name} {shown(value)}"
                for name, value in result.get("numbers", {}).items()
            )
            why = short(result.get("reason", ""))
            lines.append(
                f"{result['name']:{width}}  {result['status']:8}"
                f"{why}{'; ' if why and told else ''}{told}".rstrip()
            )
        lines += self.failures()
        if self.earlier:
            lines.append(f"{len(self.earlier)} other items of earlier runs: {self.path}")
        count = {}
        for result in self.items:
            count[result["status"]] = count.get(result["status"], 0) + 1
        lines.append(", ".join(f"{n} {status}" for status, n in sorted(count.items())))
        return "\n".join(lines)

    def failures(self):
        rows = [r for r in self.items if r["status"] == "failed"]
        each = ALL_FAILURES // max(1, len(rows))
        return [f"{r['name']}: {r['reason'][:each]}" for r in rows if len(r["reason"]) > LINE]


def finite(row):
    """JSON has no NaN: as texts."""
    if "numbers" not in row:
        return row
    numbers = {
        k: str(v) if isinstance(v, float) and not math.isfinite(v) else v
        for k, v in row["numbers"].items()
    }
    return {**row, "numbers": numbers}


def describe(machine):
    return ", ".join(f"{k} {v}" for k, v in machine.items()) or "machine not known"


def short(text):
    """One line of a reason."""
    text = " ".join(text.split())
    return text if len(text) <= LINE else text[:LINE] + " ..."


def shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
