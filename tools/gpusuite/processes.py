# SPDX-License-Identifier: Apache-2.0
"""Programs as the suite runs them: each in a process group of its own that does not
outlive its time, and all that it said in a log."""
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

# Of each stream in the log, in bytes: the beginning and the end. Less once the log is
# large, so that it can be copied back from anywhere.
KEPT = (50 << 10, 200 << 10)
KEPT_IN_LARGE = (2 << 10, 8 << 10)
LARGE = 8 << 20
# A process that the driver holds may not even die when it is killed.
SECONDS_TO_DIE = 15


class Done:
    def __init__(self, code, output, errors, timed_out, seconds=0.0):
        self.code, self.output, self.errors = code, output, errors
        self.timed_out, self.seconds = timed_out, seconds

    def why(self, name):
        """How it ended, the test that it was in, and the end of what it said."""
        said = [last_test(self.output)] if last_test(self.output) else []
        for stream in (self.errors, self.output):
            lines = stream.strip().splitlines()
            if lines:
                said.append(" | ".join(lines[-3:])[-500:])
        if self.timed_out:
            how = f"took too long and was ended after {self.seconds:.0f} s"
        elif self.code is None:
            how = "could not be ended"
        elif self.code < 0:
            how = f"died of signal {-self.code}"
        else:
            how = f"ended with status {self.code}"
        return "; ".join([f"{name} {how}", *said])


def last_test(output):
    """The test that GoogleTest had begun and not ended."""
    begun = ""
    for line in output.splitlines():
        if line.startswith("[ RUN      ]"):
            begun = line
        elif line.startswith(("[       OK ]", "[  FAILED  ]", "[  SKIPPED ]")):
            begun = ""
    return begun


class Log:
    """What all programs said, item by item; it is whole after each program."""

    def __init__(self, path, is_continued):
        self.path, self.item = pathlib.Path(path), ""
        if not is_continued:
            self.path.unlink(missing_ok=True)

    def begin(self, item):
        self.item = item

    def write(self, text):
        with open(self.path, "a", encoding="utf-8", errors="replace") as file:
            file.write(text)

    def command(self, command, variables):
        words = [f"{k}={v}" for k, v in (variables or {}).items()]
        self.write(f"== {self.item}\n$ {' '.join(words + [str(c) for c in command])}\n")

    def end(self, done):
        large = self.path.exists() and self.path.stat().st_size > LARGE
        kept = KEPT_IN_LARGE if large else KEPT
        status = "ended, too long" if done.timed_out else f"status {done.code}"
        self.write(
            f"{status}, {done.seconds:.2f} s\n"
            f"-- stdout\n{both_ends(done.output, *kept)}"
            f"-- stderr\n{both_ends(done.errors, *kept)}\n"
        )


def both_ends(text, first, last):
    if text and not text.endswith("\n"):
        text += "\n"
    left_out = len(text) - first - last
    if left_out <= 0:
        return text
    return f"{text[:first]}\n... {left_out} characters left out ...\n{text[-last:]}"


def run_program(command, seconds, on_line, environment):
    """Runs it to its end, or until its group is killed when the time is over."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [str(c) for c in command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        output, timed_out = follow(process, seconds, on_line)
        errors.seek(0)
        took = time.monotonic() - began
        return Done(process.returncode, output, errors.read(), timed_out, took)


def follow(process, seconds, on_line):
    """Reads the output until the end; ends the group after `seconds`."""
    lines = []

    def read():
        for line in process.stdout:
            lines.append(line)
            if on_line:
                on_line(line)

    # Neither reading nor waiting may keep the suite from going on: a daemon reads.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    timed_out = False
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        if process.poll() is None:
            end_group(process)
            try:
                process.wait(SECONDS_TO_DIE)
            except subprocess.TimeoutExpired:
                pass
        reader.join(SECONDS_TO_DIE)
        if reader.is_alive():  # what it left behind keeps the pipe open
            end_group(process)
        else:
            process.stdout.close()
    return "".join(list(lines)), timed_out


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
