#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks names and documents of the tree against docs/design/style.md.

Reads files that git knows or would add, and nothing else; compiles nothing. Prints one
line for each finding: path:line: what. tools/check runs it; a check is one function.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE_ENDINGS = {".cpp", ".h", ".def", ".td", ".fbs", ".cmake", ".mlir", ".py", ".cu",
                  ".cuh"}
SCRIPT_FOLDERS = ("tools", ".ci")
MAX_SOURCE_LINES = 500
VAGUE_STEMS = re.compile(r"(Utils?|Helpers?|Common|Managers?|Misc)(?=[A-Z_.]|$)")
# Folders of the machine this was written on; hosts that packages come from.
MACHINE_PATH = re.compile(r"(?<![\w./-])/(work|root|home)/\w")
REGISTRY_HOST = re.compile(
    r"\b(deb|security|registry|files|archive|snapshot)\.\w+\.(org|com|io)\b"
    r"|\b(pypi|npmjs|crates|apt\.llvm)\.(org|com|io)\b"
)
MARKDOWN_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
ERROR_DEF = re.compile(r"^LLMC_ERROR\((\d{4}), (\w+),", re.MULTILINE)
ERROR_ENTRY = re.compile(r"^## LLMC-E(\d{4}) (\w+)$", re.MULTILINE)
PASS_DEF = re.compile(r'^def (\w+) : Llmc_Pass<"([a-z0-9-]+)">', re.MULTILINE)


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(
        pathlib.Path(name)
        for name in set(listed.split("\0"))
        if name and (ROOT / name).is_file()
    )


def read(path):
    """The text of a file: none of one that is missing, None of one that is binary."""
    if not (ROOT / path).is_file():
        return ""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def is_script(path):
    return path.parts[0] in SCRIPT_FOLDERS and path.suffix == ""


def check_spdx(files):
    for path in files:
        is_source = path.suffix in SOURCE_ENDINGS or path.name == "CMakeLists.txt"
        if not (is_source or is_script(path)):
            continue
        lines = (read(path) or "").splitlines()
        while lines and lines[0].startswith(("#!", "// RUN:")):
            lines = lines[1:]
        if not lines or "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
            yield path, 1, "the first line is not the SPDX licence line"


def check_length(files):
    for path in files:
        if path.suffix not in SOURCE_ENDINGS - {".mlir"}:
            continue
        lines = (read(path) or "").splitlines()
        if len(lines) > MAX_SOURCE_LINES and "lines" not in " ".join(lines[:15]):
            yield path, 1, (
                f"{len(lines)} lines; above {MAX_SOURCE_LINES} its first comment says "
                "why so many lines belong together"
            )


def check_names(files):
    for path in files:
        if path.suffix in SOURCE_ENDINGS and VAGUE_STEMS.search(path.stem):
            yield path, 1, "a name that does not say what is in it (style.md, Names)"


def check_machine(files):
    for path in files:
        text = read(path)
        if text is None or path.suffix in {".json", ".model", ".bpe"}:
            continue
        for pattern, what in (
            (MACHINE_PATH, "a path of one machine"),
            (REGISTRY_HOST, "a host of a package registry"),
        ):
            for match in pattern.finditer(text):
                yield path, line_of(text, match.start()), f"{what}: {match.group(0)}"


def anchor(heading):
    """GitHub's anchor of a heading."""
    heading = re.sub(r"[^\w\s-]", "", heading.strip().lower())
    return heading.replace(" ", "-")


def anchors(path):
    text = re.sub(r"^```.*?^```", "", read(path) or "", flags=re.DOTALL | re.MULTILINE)
    return {anchor(m.group(1)) for m in re.finditer(r"^#+ (.*)$", text, re.MULTILINE)}


def check_links(files):
    for path in files:
        if path.suffix != ".md":
            continue
        text = read(path) or ""
        for match in MARKDOWN_LINK.finditer(text):
            link = match.group(1)
            if re.match(r"[a-z]+:", link):
                continue
            name, _, fragment = link.partition("#")
            target = (ROOT / path.parent / name).resolve() if name else ROOT / path
            line = line_of(text, match.start())
            if not target.exists():
                yield path, line, f"link to nothing: {link}"
            elif fragment and target.suffix == ".md":
                if fragment not in anchors(target.relative_to(ROOT)):
                    yield path, line, f"no such heading: {link}"


def check_errors(files):
    source = pathlib.Path("runtime/base/Errors.def")
    page = pathlib.Path("docs/errors.md")
    defined = dict(ERROR_DEF.findall(read(source)))
    entries = ERROR_ENTRY.findall(read(page))
    documented = dict(entries)
    codes = [code for code, _ in entries]
    for code, name in defined.items():
        if documented.get(code) != name:
            yield source, 1, f"no entry '## LLMC-E{code} {name}' in {page}"
    for code, name in documented.items():
        if defined.get(code) != name:
            yield page, 1, f"LLMC-E{code} {name} is not in {source}"
    if codes != sorted(set(codes)):
        yield page, 1, "entries are not in order of their codes, each once"


def check_passes(files):
    """One stem in five places."""
    definitions = pathlib.Path("compiler/passes/Passes.td")
    pipeline = read(pathlib.Path("compiler/passes/Pipeline.cpp"))
    reference = read(pathlib.Path("docs/reference/passes.md"))
    for name, stem in PASS_DEF.findall(read(definitions)):
        expected = "-".join(re.findall(r"[A-Z][a-z0-9]*", name)).lower()
        source = pathlib.Path(f"compiler/passes/{name}.cpp")
        test = pathlib.Path(f"tests/passes/{stem}.mlir")
        if stem != expected:
            yield definitions, 1, f"{name} should have the stem {expected}, not {stem}"
        for needed in (source, test):
            if needed not in files:
                yield definitions, 1, f"{name} has no {needed}"
        if f"## `-llmc-{stem}`" not in reference:
            yield definitions, 1, f"{name} is not in docs/reference/passes.md"
        if name not in pipeline:
            yield definitions, 1, f"{name} is not in Pipeline.cpp"


def check_reachable(files):
    """A reader who starts at README.md can get to each page under docs/."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        for match in MARKDOWN_LINK.finditer(read(page.relative_to(ROOT)) or ""):
            name = match.group(1).partition("#")[0]
            waiting.append((page.parent / name).resolve())
    for path in files:
        if path.suffix == ".md" and path.parts[0] == "docs" and ROOT / path not in reached:
            yield path, 1, "no chain of links from README.md leads here"


CHECKS = (
    check_spdx,
    check_length,
    check_names,
    check_machine,
    check_links,
    check_errors,
    check_passes,
    check_reachable,
)


def main():
    files = tracked_files()
    findings = [found for check in CHECKS for found in check(files)]
    for path, line, what in findings:
        print(f"{path}:{line}: {what}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
