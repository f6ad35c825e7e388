"""Which statements came before: a repeat gets its stored answer, and has no second effect.

Owns the memory for as long as a statement would be accepted again, and not longer; after that it is STALE.
Nothing is forgotten early to make room, since what is forgotten could be replayed: a full memory refuses
instead.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.wire import limits

if TYPE_CHECKING:
    from bacalhau.wire.envelope import Opened

A = TypeVar("A")


class Sighting(Enum):
    """What is known of a statement that arrived."""

    NEW = 1
    # It came before, and its handling has not ended yet.
    IN_WORK = 2
    ANSWERED = 3


@dataclass(slots=True)
class _Entry(Generic[A]):
    digest: bytes
    stale_after_us: int
    answered: bool = False
    answer: A | None = None


class SeenStatements(Generic[A]):
    """Statements by sender and id, each with its envelope's digest and, once there is one, the answer."""

    def __init__(
        self, *, per_sender: int = limits.MAX_SEEN_PER_SENDER, in_total: int = limits.MAX_SEEN
    ) -> None:
        self._per_sender = per_sender
        self._in_total = in_total
        self._entries: dict[tuple[str, str], _Entry[A]] = {}
        self._of_sender: Counter[str] = Counter()
        self._expiries: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def see(self, opened: Opened[Any], *, now_us: int) -> tuple[Sighting, A | None]:
        """Remembers a statement; of one that came before, says so and gives the answer where there is one.

        After NEW the caller handles it, then calls `answer`, or `forget` where handling failed and a repeat
        shall be handled anew. Raises Refused: ID_REUSED for an id with other content, LIMIT_REACHED where the
        memory for this sender or in all is full.
        """
        self._expire(now_us)
        name = (opened.sender, opened.statement_id)
        entry = self._entries.get(name)
        if entry is not None:
            if entry.digest != opened.digest:
                raise refused(
                    RefusalReason.ID_REUSED,
                    f"the statement id {opened.statement_id} came before with other content: use a new id",
                )
            return (Sighting.ANSWERED, entry.answer) if entry.answered else (Sighting.IN_WORK, None)
        self._check_room(opened.sender)
        self._entries[name] = _Entry(opened.digest, opened.stale_after_us)
        self._of_sender[opened.sender] += 1
        heapq.heappush(self._expiries, (opened.stale_after_us, *name))
        return Sighting.NEW, None

    def answer(self, opened: Opened[Any], answer: A) -> None:
        """Stores the answer that a repeat will get, unless the statement has expired meanwhile."""
        entry = self._entries.get((opened.sender, opened.statement_id))
        if entry is not None and entry.digest == opened.digest:
            entry.answered, entry.answer = True, answer

    def forget(self, opened: Opened[Any]) -> None:
        """Takes back a NEW statement whose handling failed."""
        name = (opened.sender, opened.statement_id)
        entry = self._entries.get(name)
        if entry is not None and entry.digest == opened.digest:
            self._remove(name)

    def _expire(self, now_us: int) -> None:
        while self._expiries and self._expiries[0][0] < now_us:
            stale_after_us, *name = heapq.heappop(self._expiries)
            sender, statement_id = name
            entry = self._entries.get((sender, statement_id))
            # One that was forgotten and came again has an expiry of its own.
            if entry is not None and entry.stale_after_us == stale_after_us:
                self._remove((sender, statement_id))

    def _remove(self, name: tuple[str, str]) -> None:
        del self._entries[name]
        sender = name[0]
        self._of_sender[sender] -= 1
        if not self._of_sender[sender]:
            del self._of_sender[sender]

    def _check_room(self, sender: str) -> None:
        if self._of_sender[sender] >= self._per_sender:
            raise refused(
                RefusalReason.LIMIT_REACHED,
                f"this node remembers {self._per_sender} statements of one peer and has that many of yours: "
                "send fewer at once, or later",
                limit=self._per_sender,
            )
        if len(self._entries) >= self._in_total:
            raise refused(
                RefusalReason.LIMIT_REACHED,
                f"this node remembers {self._in_total} statements and has that many: try later",
                limit=self._in_total,
            )
