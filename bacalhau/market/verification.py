"""Verification: what two results have to have in common, commitments to it, and the verdict over a set of results.

    run --commit--> committed --all have--> revealed --fetched, fits its commitment--> compared --verdict--> paid
                        |                       |                                         '--refuted: unpaid
                        '--not revealed: unpaid '--fits not: refuted, unpaid

A commitment is made before any result is shown, and binds the execution and the node, so that whoever waits for the
results of others has nothing to copy: a digest that was seen cannot be opened by another node, and what it hides
cannot be guessed for its salt. One node has one voice a job; who runs several nodes has several, which no hash can
prevent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SALT_BYTES: Final = 32
TRUSTED_AFTER: Final = 10
"""So many valid results in a row make a node one whose results are only checked now and then."""
DRAW_BITS: Final = 64
ADAPTIVE_CONFIDENCE: Final = 2
ADAPTIVE_REPLICAS_MAX: Final = 3
"""The first result, one that checks it, and a third where these two differ."""


def compared_digest(exit_code: int, stdout: bytes | None, outputs: Mapping[str, bytes]) -> bytes:
    """SHA-256 over what is compared of a result. `stdout` and each output, by name, are their CIDs in binary form: the
    layout of a result is part of the protocol, so equal content has equal CIDs. `stdout` None leaves it out."""
    parts = [str(exit_code).encode(), b"" if stdout is None else stdout]
    for name in sorted(outputs):
        parts += [name.encode("utf-8", "surrogateescape"), outputs[name]]
    return _digest(b"bacalhau-compared", parts)


def commitment_digest(salt: bytes, compared: bytes, execution_id: str, node_id: str) -> bytes:
    """The commitment of this node, for this execution, to a result whose compared digest that is."""
    return _digest(b"bacalhau-commitment", (salt, compared, execution_id.encode(), node_id.encode()))


def _digest(domain: bytes, parts: list[bytes] | tuple[bytes, ...]) -> bytes:
    """SHA-256 of the parts, each after its length, so that no two lists of parts give the same input."""
    digest = hashlib.sha256(domain)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ids by what they have in common: groups largest first, each and those of one size in order of ids.
    `agreed` is whether the first group won."""

    groups: tuple[tuple[str, ...], ...]
    agreed: bool

    @property
    def winners(self) -> tuple[str, ...]:
        return self.groups[0] if self.agreed else ()

    @property
    def losers(self) -> tuple[str, ...]:
        """Those that a winning group refutes. Where none won, nobody is refuted."""
        return tuple(id for group in self.groups[1:] for id in group) if self.agreed else ()


def judge(compared: Mapping[str, bytes], confidence: int) -> Verdict:
    """The largest group with one digest wins, if it has at least `confidence` members and no other is as large."""
    by_digest: dict[bytes, list[str]] = {}
    for id in sorted(compared):
        by_digest.setdefault(compared[id], []).append(id)
    groups = sorted((tuple(ids) for ids in by_digest.values()), key=lambda group: (-len(group), group))
    sizes = [len(group) for group in groups] + [0, 0]
    return Verdict(tuple(groups), sizes[0] >= max(confidence, 1) and sizes[0] > sizes[1])


def is_checked(consecutive_valid: int, draw: int) -> bool:
    """Whether a result is run again elsewhere before it is accepted. `draw` is uniform below 2**DRAW_BITS.

    BOINC's adaptive replication (boinc.berkeley.edu/trac/wiki/AdaptiveReplication): with CV valid results in a row a
    host is not trusted below 10, and from there on with probability 1 - 1/CV, that is checked with 1/CV. CV grows
    with a checked result that is valid, not with one that was trusted, and goes to zero with an invalid one.
    """
    if consecutive_valid < TRUSTED_AFTER:
        return True
    return draw * consecutive_valid < 1 << DRAW_BITS


def draw_of(id: str) -> int:
    """A draw for `is_checked` from an id that was drawn for it and that nobody else has seen."""
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[: DRAW_BITS // 8], "big")
