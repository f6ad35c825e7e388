"""Replays a trace of `serve --trace` through fresh machines, and holds every step's effects against those of the
live node: the proof that live and simulated nodes run the same code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bacalhau.model.cid import InvalidCid
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.plain import NotPlain, digest, from_plain
from bacalhau.scheduler.requester import RequesterMachine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bacalhau.scheduler.effects import Effects

FORMAT = 2
_COMPUTE_EVENTS = ev.ComputeEvent.__args__


class ReplayFailure(Exception):
    """The trace cannot be read, or a step has other effects; names the file and the line."""


@dataclass(slots=True)
class Replayed:
    """A trace whose every step had the same effects again."""

    node: str = ""
    lives: int = 0
    steps: int = 0


def replay(path: Path) -> Replayed:
    """Raises ReplayFailure, and OSError where the file cannot be read."""
    replayed, life = Replayed(), _Life()
    for place, line in _lines(path):
        try:
            match line:
                case {"format": number, "node": str(node)}:
                    if number != FORMAT:
                        raise ReplayFailure(
                            f"{place}: the trace has format {number}, this version reads {FORMAT}"
                        )
                    replayed.node, life = node, _Life()
                    replayed.lives += 1
                case {"machines": {"requester": requester, "compute": compute}}:
                    life.make(from_plain(requester), from_plain(compute))
                case _:
                    life.step(place, line)
                    replayed.steps += "restore" not in line
        except (NotPlain, InvalidCid, KeyError, TypeError, ValueError) as error:
            raise ReplayFailure(f"{place}: this is no line of a trace: {error!r}") from error
    if not replayed.lives:
        raise ReplayFailure(f"{path} is empty")
    return replayed


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of the file. A node that was killed may have left a part of a line where its life ended."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
            except ValueError as error:
                if text.endswith("\n"):
                    raise ReplayFailure(f"{path}:{number}: this is no JSON: {error}") from error
                return
            if not isinstance(line, dict):
                raise ReplayFailure(f"{path}:{number}: this is no object")
            yield f"{path}:{number}", line


class _Life:
    """The machines of one life of the node. They draw the ids that the live ones drew."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._drawn = 0
        self._requester: RequesterMachine | None = None
        self._compute: ComputeMachine | None = None
        self._restore: tuple[int, Any] | None = None

    def make(self, requester: dict[str, Any], compute: dict[str, Any]) -> None:
        self._requester = RequesterMachine(**requester, ids=self._draw)
        self._compute = ComputeMachine(**compute, ids=self._draw)

    def _draw(self, prefix: str) -> str:
        if self._drawn >= len(self._ids):
            return f"{prefix}-more-ids-than-the-live-node-drew"
        self._drawn += 1
        return self._ids[self._drawn - 1]

    def step(self, place: str, line: dict[str, Any]) -> None:
        requester, compute = self._requester, self._compute
        if requester is None or compute is None:
            raise ReplayFailure(f"{place}: an event comes before the machines")
        if "restore" in line:
            self._restore = (line["now"], line["restore"])
            return
        self._ids, self._drawn = line["ids"], 0
        if "restored" in line:
            if self._restore is None:
                raise ReplayFailure(f"{place}: there was nothing to restore")
            now, given = self._restore
            works, jobs, executions, known, books = (
                from_plain(given[key]) for key in ("work", "jobs", "executions", "reputations", "books")
            )
            answered = [
                compute.restore(works, known, books, now=now),
                requester.restore(jobs, executions, known, books, now=now),
            ]
            self._compare(place, answered, line["restored"])
        elif "expire" in line:
            machine = {type(m).__name__: m for m in (requester, compute)}[line["expire"]]
            self._compare(place, [machine.expire(now=line["now"])], [line["effects"]])
        else:
            event = from_plain(line["event"])
            if isinstance(event, _COMPUTE_EVENTS):
                effects = compute.handle(event, now=line["now"])
            else:
                effects = requester.handle(event, now=line["now"])
            self._compare(place, [effects], [line["effects"]])

    def _compare(self, place: str, answered: list[Effects], recorded: list[str]) -> None:
        if self._drawn != len(self._ids):
            raise ReplayFailure(
                f"{place}: the machine drew {self._drawn} ids, the live node's {len(self._ids)}"
            )
        if [digest(effects) for effects in answered] != recorded:
            raise ReplayFailure(f"{place}: the effects are not those of the live node, but: {answered}")
