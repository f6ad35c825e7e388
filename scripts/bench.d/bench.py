"""Measures each claim of docs/performance.md, side by side in one run, and prints a table: see scripts/bench."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import bitswap
import commands
import docker_jobs
import grpc
import ipfs
import market
import simulation
import wasm_jobs
from claims import CannotMeasure, Claim, Finding
from nodes import REPOSITORY

if TYPE_CHECKING:
    from types import ModuleType

# What is measured in milliseconds comes first: engine and disk are busy for a while after the others.
PARTS: dict[str, ModuleType] = {
    "market": market,
    "wasm": wasm_jobs,
    "cli": commands,
    "docker": docker_jobs,
    "ipfs": ipfs,
    "bitswap": bitswap,
    "simulation": simulation,
}
_SETTLE_S = 20
README = REPOSITORY / "README.md"
_MARKED = re.compile(r"(<!-- bench:begin [^\n]*-->\n).*?(<!-- bench:end -->)", re.DOTALL)


def main() -> int:
    arguments = _arguments()
    loads = []
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="bacalhau-bench-") as name:
        for part in arguments.parts or PARTS:
            os.sync()
            time.sleep(_SETTLE_S)
            loads.append(os.getloadavg()[0])
            print(f"measuring {part} (load {loads[-1]:.1f}) …", file=sys.stderr, flush=True)
            measured = measure(PARTS[part], Path(name), quick=arguments.quick)
            for finding in measured:
                print(f"  {finding.claim.what}: {finding.measured_text}", file=sys.stderr, flush=True)
            findings += measured
    circumstances = (
        f"{os.cpu_count()} processors, Python {platform.python_version()}, load {min(loads):.1f} to {max(loads):.1f} "
        f"when the parts began, {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
        + (", with few rounds (--quick)" if arguments.quick else "")
    )
    print(table(findings))
    print(f"\n{circumstances}")
    if arguments.json:
        plain = {"circumstances": circumstances, "findings": [finding.as_plain() for finding in findings]}
        arguments.json.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    if arguments.readme:
        write_readme(findings, circumstances)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few rounds and 128 MiB: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there too")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.add_argument(
        "--directory", type=Path, help="on the disk to measure; takes 7 GiB (the temporary folder)"
    )
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}: choose from {', '.join(PARTS)}")
    if arguments.readme and (arguments.parts or arguments.quick):
        parser.error("the README's table comes from one run of everything: leave out the parts and --quick")
    return arguments


def measure(part: ModuleType, folder: Path, *, quick: bool) -> list[Finding]:
    """The findings of a part; those that could not be measured say why."""
    found: dict[Claim, Finding] = {}
    reason = ""
    try:
        for finding in part.measure(folder, quick=quick):
            found[finding.claim] = finding
    except CannotMeasure as error:
        reason = str(error)
    except grpc.RpcError as error:
        reason = f"the node refused a call: {error}"
    return [found.get(claim) or Finding(claim, missing=" ".join(reason.split())) for claim in part.CLAIMS]


def table(findings: list[Finding]) -> str:
    """For people: a line a claim, and below it what else is worth knowing."""
    lines = [("what", "here", "against", "there", "ratio (lowest – highest)", "goal", "")]
    for finding in findings:
        lines.append(
            (
                finding.claim.what,
                finding.side_text(ours=True),
                finding.claim.against,
                finding.side_text(ours=False),
                finding.measured_text,
                finding.claim.goal_text,
                finding.verdict if finding.rounds else "",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    written = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    written += [f"{finding.claim.what}: {note}" for finding in findings for note in finding.notes]
    return "\n".join(written + _missing(findings))


def _missing(findings: list[Finding]) -> list[str]:
    """Why some were not measured, a line a reason."""
    reasons = dict.fromkeys(finding.missing for finding in findings if not finding.rounds)
    return [f"not measured: {reason}" for reason in reasons]


def write_readme(findings: list[Finding], circumstances: str) -> None:
    lines = ["| what | against | measured | goal | |", "| --- | --- | --- | --- | --- |"]
    for finding in findings:
        claim = finding.claim
        cells = (
            claim.what,
            claim.against,
            finding.measured_text,
            claim.goal_text,
            finding.verdict if finding.rounds else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Medians of the rounds' ratios (of memory the worst), with the lowest and the highest; {circumstances}.",
    ]
    lines += _missing(findings)
    text = README.read_text()
    written, count = _MARKED.subn(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], text)
    if count != 1:
        sys.exit(
            "README.md has no place for the table: a line `<!-- bench:begin … -->` and `<!-- bench:end -->`"
        )
    README.write_text(written)


if __name__ == "__main__":
    sys.exit(main())
