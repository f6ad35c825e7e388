"""Holds the rules of `source_rules.py`, and some on files, over everything that is to be committed.

Every rule is shown to find a bad sample: a rule that finds nothing anywhere proves nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.source_rules import (
    PURE_RULES,
    RULES,
    VAGUE_NAMES,
    Rule,
    broad_handlers,
    error_texts,
    faults_of,
    floats,
    purity,
    set_order,
    size,
    unfinished,
    vague_names,
)

REPOSITORY = Path(__file__).parents[1]
PURE_PACKAGES = ("model", "market", "scheduler")
# A letter in brackets each, for this file is read by its own rules.
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b")
REGISTRIES = re.compile(
    r"py[p]i\.org|python[h]osted\.org|npm[j]s\.(org|com)|proxy\.go[l]ang\.org|crates[.]io|goproxy[.]io"
    r"|--(extra-)?index[-]url|PIP_INDEX[_]URL|GO[P]ROXY *="
)
MACHINE_PATHS = re.compile(
    r"/op[t]/venv|/hom[e]/[a-z]+/|/User[s]/[a-z]+/|/tmp/br[i]ef|/wo[r]k/(main|shared)\b"
)


def files() -> list[Path]:
    """What is committed or would be: git's list where this is a checkout."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or no git
        folders = ("bacalhau", "scripts", "tests", "docs", "proto")
        found = (path for folder in folders for path in (REPOSITORY / folder).rglob("*"))
        return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)
    paths = (REPOSITORY / name for name in listed.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


FILES = files()
PACKAGE = REPOSITORY / "bacalhau"
MODULES = [path for path in FILES if path.suffix == ".py" and PACKAGE / "v1" not in path.parents]
SCRIPTS = [path for path in FILES if path.relative_to(REPOSITORY).parts[0] in ("scripts", ".ci")]


def faults_in(path: Path) -> list[str]:
    name = path.relative_to(REPOSITORY)
    is_pure = name.parts[0] == "bacalhau" and name.parts[1] in PURE_PACKAGES
    rules = RULES + PURE_RULES if is_pure else RULES
    found = [f"{name}:{line} {fault}" for line, fault in faults_of(path.read_text(), rules)]
    if VAGUE_NAMES.search(path.stem):
        found.append(f"{name}: its name says nothing")
    return found


def text_faults(text: str, checkout: Path) -> list[str]:
    """What no text file may hold: unfinished work, the host of a package registry, a path of one machine."""
    found = [f"unfinished: {match.group()}" for match in UNFINISHED.finditer(text)]
    found += [f"a package registry: {match.group()}" for match in REGISTRIES.finditer(text)]
    found += [f"a path of one machine: {match.group()}" for match in MACHINE_PATHS.finditer(text)]
    if len(checkout.parts) > 2 and f"{checkout}/" in text:
        found.append(f"a path of this machine: {checkout}/")
    return found


def test_the_modules_keep_the_rules() -> None:
    assert [path.name for path in MODULES if path.name == "test_tidy.py"], (
        "the list of modules is not the project's"
    )
    found = [fault for path in MODULES for fault in faults_in(path)]
    assert not found, "\n".join(found)


def test_no_file_is_unfinished_or_names_a_registry_or_a_machine() -> None:
    found = []
    for path in FILES:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        # The hashes of a lock file are text in which anything can occur by chance.
        if path.parent.name != "requirements":
            found += [f"{path.relative_to(REPOSITORY)}: {fault}" for fault in text_faults(text, REPOSITORY)]
    assert not found, "\n".join(found)


def test_lock_files_hold_hashes_and_no_address() -> None:
    for path in (REPOSITORY / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "--hash=sha256:" in text, path
        assert "://" not in text, path


def test_every_script_can_be_run() -> None:
    sourced = [path for path in SCRIPTS if path.parent.name == "lib"]
    commands = [path for path in SCRIPTS if path not in sourced and path.suffix not in (".py", ".wat")]
    assert commands
    assert [str(path) for path in commands if not os.access(path, os.X_OK)] == []
    assert [str(path) for path in commands if not path.read_text().startswith("#!/")] == []
    assert [str(path) for path in sourced if os.access(path, os.X_OK)] == []


def test_every_package_has_an_init_module() -> None:
    """Without one, a package is not seen by import-linter, and its imports are held by no rule."""
    folders = {path.parent for path in FILES if path.suffix == ".py" and PACKAGE in path.parents}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


@pytest.mark.parametrize(
    ("rule", "sample", "fault"),
    [
        (purity, "async def f(): pass", "is asynchronous"),
        (purity, "import time", "imports time"),
        (purity, "def f():\n    from os.path import join", "imports os.path"),
        (purity, "open('x')", "calls open()"),
        (purity, "key = hash('a')", "calls hash()"),
        (set_order, "for x in {1, 2}: pass", "order of a set"),
        (set_order, "def f(names: set[str]) -> list[str]:\n    return [n for n in names]", "order of a set"),
        (set_order, "a = set()\nb = list(a | other)", "order of a set"),
        (
            set_order,
            "class A:\n    p: frozenset[str]\n    def f(self): return ','.join(self.p)",
            "order of a set",
        ),
        (set_order, "a = {1}\na.pop()", "order of a set"),
        (set_order, "a = {1}\nb = f(x for x in a)", "order of a set"),
        (set_order, "a = {1}\nb = [*a]", "order of a set"),
        (floats, "price = 0.5", "float literal"),
        (floats, "price = float(x)", "uses float"),
        (floats, "def f(price: float): pass", "uses float"),
        (floats, "share = used / declared", "divides by /"),
        (floats, "share /= 2", "divides by /"),
        (size, "def f():\n" + "    x = 1\n" * 70, "f has 71 lines"),
        (size, "x = 1\n" * 501, "more than 500 lines"),
        (unfinished, "raise NotImplementedError", "NotImplementedError"),
        (unfinished, "raise NotImplementedError('later')", "NotImplementedError"),
        (vague_names, "class JobManager: pass", "JobManager says nothing"),
        (vague_names, "def job_utils(): pass", "job_utils says nothing"),
        (broad_handlers, "try: pass\nexcept: pass", "catches everything"),
        (broad_handlers, "try:\n    pass\nexcept (OSError, Exception):\n    pass", "catches everything"),
        (error_texts, "try: pass\nexcept E as e:\n    if 'no such' in str(e): pass", "error's text"),
        (error_texts, "try: pass\nexcept E as e:\n    if e.args[0] == 'no': pass", "error's text"),
    ],
)
def test_a_bad_sample_is_found(rule: Rule, sample: str, fault: str) -> None:
    found = faults_of(sample, (rule,))
    assert [text for _, text in found if fault in text], found


def test_a_good_sample_has_no_fault() -> None:
    good = (
        "from dataclasses import dataclass\n"
        "def total(prices: set[int], names: dict[str, int]) -> int:\n"
        "    for name in names: pass\n"
        "    ordered = sorted(p for p in prices)\n"
        "    if 3 in prices: return len(prices) // 2\n"
        "    try: pass\n"
        "    except Exception: pass  # a plug-in may raise anything\n"
        "    return sum(p for p in prices)\n"
    )
    assert faults_of(good, RULES + PURE_RULES) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("# TO", "DO: later"),
        ("see https://py", "pi.org/simple"),
        ("npm install --registry https://registry.npm", "js.org"),
        ("PATH=/hom", "e/someone/bin"),
        ("/somewhere/", "checkout/bacalhau"),
    ],
)
def test_a_bad_text_is_found(start: str, end: str) -> None:
    assert text_faults(start + end, Path("/somewhere/checkout"))
    assert text_faults("a line of text", Path("/somewhere/checkout")) == []
