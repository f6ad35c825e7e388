"""Reputation: from what was seen of a node to a number that filters, ranks and prices.

Local: each node keeps its own book and believes nobody else's, for a reputation that others report can be bought with
fresh keys. Two-sided: compute nodes are judged by their requesters, requesters by the nodes that worked for them.

The score is that of the beta reputation system (A. Jøsang, R. Ismail, "The Beta Reputation System", 15th Bled
Electronic Commerce Conference, 2002): the expected value of a beta distribution, (r + 1) / (r + s + 2), with r the good
and s the bad that was seen, both forgotten by a half-life of 30 days. Integers throughout, in millionths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.frozen import replace
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Conduct, ConductCount, Reputation, Role
from bacalhau.model.units import DAY_US, PPM

if TYPE_CHECKING:
    from collections.abc import Iterable

NEW_SCORE_PPM: Final = PPM // 2
"""Of a node of which nothing was seen, or which all is forgotten of."""
HALF_LIFE_DAYS: Final = 30
_DAILY_PPB: Final = 977_159_968
"""2 ** (-1/30) in thousand-millionths: what is left of something after a day."""
_RECENT_MAX_PPM: Final = 10**15
_PRICE_FACTOR_MAX_PPM: Final = 10 * PPM

_GOOD: Final = (Conduct.COMPLETED, Conduct.PAID)
_BAD: Final = {
    Conduct.FAILED: 1,
    Conduct.LATE: 1,
    Conduct.REFUSED: 1,
    Conduct.CHEATED: 20,
    Conduct.DISPUTED: 1,
    Conduct.ABANDONED: 2,
}
"""How many times a bad one counts. After a proven cheat it takes twenty good results to be rated as an
unknown node again."""


_FAULTS_OF_NODES: Final = {
    FaultKind.ENGINE_FAILED: Conduct.FAILED,
    FaultKind.STORAGE_FULL: Conduct.FAILED,
    FaultKind.NODE_RESTARTED: Conduct.FAILED,
    FaultKind.RESULT_UNAVAILABLE: Conduct.FAILED,
    FaultKind.NODE_LOST: Conduct.LATE,
    FaultKind.RESULT_REFUTED: Conduct.CHEATED,
    FaultKind.NOT_REVEALED: Conduct.REFUSED,
}


def conduct_of(state: ExecutionState, failure: Fault | None) -> Conduct | None:
    """What an execution's new state says of its node; None for what says nothing, or is the job's own fault."""
    match state:
        case ExecutionState.COMPLETED:
            return Conduct.COMPLETED
        case ExecutionState.FAILED if failure is not None:
            return _FAULTS_OF_NODES.get(failure.kind)
        case ExecutionState.REFUSED if failure is not None:
            return Conduct.REFUSED
        case _:
            return None


def decayed(recent_ppm: int, days: int) -> int:
    """What is left after so many days: half of it after 30. Rounded down at each call."""
    if days <= 0:
        return recent_ppm
    halvings, rest = divmod(days, HALF_LIFE_DAYS)
    kept, whole = pow(_DAILY_PPB, rest), pow(10, 9 * rest)
    return int((recent_ppm >> halvings) * kept // whole)


def noted(reputation: Reputation, conduct: Conduct, now: int) -> Reputation:
    """The reputation with one more seen. `now` in microseconds; time never goes back."""
    days = _days_between(reputation.updated_us, now)
    known = reputation.counts
    if conduct not in [seen.conduct for seen in known]:
        known = tuple(sorted((*known, ConductCount(conduct, 0, 0)), key=lambda seen: seen.conduct.value))
    counts = []
    for seen in known:
        once = 1 if seen.conduct is conduct else 0
        recent = min(decayed(seen.recent_ppm, days) + once * PPM, _RECENT_MAX_PPM)
        counts.append(ConductCount(seen.conduct, seen.count + once, recent))
    return replace(reputation, counts=tuple(counts), updated_us=max(now, reputation.updated_us))


def score_ppm(reputation: Reputation | None, now: int) -> int:
    """From 0 to 1,000,000, never quite either; NEW_SCORE_PPM for an unknown node."""
    if reputation is None:
        return NEW_SCORE_PPM
    days = _days_between(reputation.updated_us, now)
    good = bad = 0
    for seen in reputation.counts:
        recent = decayed(seen.recent_ppm, days)
        if seen.conduct in _GOOD:
            good += recent
        else:
            bad += recent * _BAD[seen.conduct]
    return (good + PPM) * PPM // (good + bad + 2 * PPM)


def too_low(score: int, least_ppm: int) -> Refusal | None:
    """Why a node below the least score is not dealt with; None where it is."""
    if score >= least_ppm:
        return None
    shown = [f"{ppm // PPM}.{ppm % PPM:06d}" for ppm in (score, least_ppm)]
    message = f"this node has seen too little good of you: your score is {shown[0]}, the least is {shown[1]}"
    return Refusal(RefusalReason.REPUTATION, message, (("score_ppm", score), ("least_score_ppm", least_ppm)))


def price_factor_ppm(score: int) -> int:
    """By what a price is multiplied for a requester of that score, in millionths: whoever pays with probability s has
    to be charged p / s for an expected p, taken relative to an unknown one. Never a discount, at most ten times."""
    return max(PPM, min(NEW_SCORE_PPM * PPM // max(score, 1), _PRICE_FACTOR_MAX_PPM))


def _days_between(before_us: int, now: int) -> int:
    """By the days' numbers, so that many small steps decay as one large one does."""
    return max(0, now // DAY_US - before_us // DAY_US)


class ReputationBook:
    """What a node has seen of others in one role."""

    __slots__ = ("_known", "_role", "_scores")

    def __init__(self, role: Role) -> None:
        self._role = role
        self._known: dict[str, Reputation] = {}
        self._scores: dict[str, tuple[int, int]] = {}
        """By node: a day's number, and the score on it: nothing is forgotten within a day."""

    def restore(self, reputations: Iterable[Reputation]) -> None:
        """Takes those of its role."""
        self._scores.clear()
        self._known.update({known.node_id: known for known in reputations if known.role is self._role})

    def of(self, node_id: str) -> Reputation | None:
        return self._known.get(node_id)

    def score_ppm(self, node_id: str, now: int) -> int:
        known = self._known.get(node_id)
        if known is None:
            return NEW_SCORE_PPM
        day, score = self._scores.get(node_id, (-1, 0))
        if day != now // DAY_US:
            score = score_ppm(known, now)
            self._scores[node_id] = now // DAY_US, score
        return score

    def consecutive_valid(self, node_id: str) -> int:
        known = self.of(node_id)
        return known.consecutive_valid if known else 0

    def note(self, node_id: str, conduct: Conduct, now: int) -> Reputation:
        """Adds what was seen just now; the reputation as it is to be written. A cheat ends the run of valid
        results."""
        known = noted(self._of_or_new(node_id, now), conduct, now)
        if conduct is Conduct.CHEATED:
            known = replace(known, consecutive_valid=0)
        return self._keep(known)

    def note_valid(self, node_id: str, now: int) -> Reputation:
        """A result was checked against others and found valid."""
        known = self._of_or_new(node_id, now)
        return self._keep(replace(known, consecutive_valid=known.consecutive_valid + 1))

    def _of_or_new(self, node_id: str, now: int) -> Reputation:
        return self.of(node_id) or Reputation(node_id, self._role, now)

    def _keep(self, reputation: Reputation) -> Reputation:
        self._known[reputation.node_id] = reputation
        self._scores.pop(reputation.node_id, None)
        return reputation
