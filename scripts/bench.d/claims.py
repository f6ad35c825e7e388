"""What a benchmark claims, and what came of measuring it: rounds of two figures, their ratio, and the verdict.

Every round measures both sides close together in time, for the machine may be shared and its speed drift. So the
figure of a claim is the median of the rounds' ratios, not the ratio of two medians.
"""

from __future__ import annotations

import enum
import statistics
from dataclasses import dataclass, field


class CannotMeasure(Exception):
    """A part is missing, or what is measured did not do its work; the text is for the table."""


class Goal(enum.Enum):
    """On which side of its bound a claim's figure should be."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, slots=True)
class Claim:
    """`what` compared with `against`, both in `unit`; where `against` is empty the bound is in that unit itself."""

    what: str
    against: str
    unit: str
    goal: Goal
    bound: float

    @property
    def goal_text(self) -> str:
        if not self.against:
            return f"{self.goal.value} {self.bound:g} {self.unit}"
        bound = f"1/{1 / self.bound:g}" if self.is_fraction else f"{self.bound:g}"
        return f"{self.goal.value} {bound}"

    @property
    def is_fraction(self) -> bool:
        """Better read as 1/15 than as 0.067."""
        return bool(self.against) and self.bound < 0.5

    def text(self, figure: float) -> str:
        """A figure as people read it."""
        if not self.against:
            return f"{figure:.0f} {self.unit}"
        if self.is_fraction:
            return f"1/{1 / figure:.1f}"
        return f"{figure:.2f}" if figure < 10 else f"{figure:.1f}"


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of both sides; `theirs` is 1 where there is no other side."""

    ours: float
    theirs: float = 1.0

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


@dataclass(slots=True)
class Finding:
    """What came of a claim: its rounds, or why there are none. `notes` are for the reader."""

    claim: Claim
    rounds: list[Round] = field(default_factory=list)
    missing: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def figure(self) -> float:
        """The median of the ratios; of an amount with a bound of its own (memory) the worst."""
        ratios = [one.ratio for one in self.rounds]
        if self.claim.against:
            return statistics.median(ratios)
        return max(ratios) if self.claim.goal is Goal.AT_MOST else min(ratios)

    @property
    def is_met(self) -> bool:
        """Judged by the figure itself, not as it is printed: 1.996 does not meet 2."""
        if self.claim.goal is Goal.AT_MOST:
            return self.figure <= self.claim.bound
        return self.figure >= self.claim.bound

    @property
    def verdict(self) -> str:
        if not self.rounds:
            return "not measured"
        return "met" if self.is_met else "missed"

    @property
    def measured_text(self) -> str:
        """The figure with the lowest and the highest round."""
        if not self.rounds:
            return "not measured"
        ratios = [one.ratio for one in self.rounds]
        middle, low, high = (self.claim.text(ratio) for ratio in (self.figure, min(ratios), max(ratios)))
        return middle if len(ratios) == 1 else f"{middle} ({low} – {high})"

    def side_text(self, *, ours: bool) -> str:
        """The median of one side, in the claim's unit."""
        if not self.rounds or not (ours or self.claim.against):
            return ""
        if not self.claim.against:
            return self.claim.text(self.figure)
        middle = statistics.median(one.ours if ours else one.theirs for one in self.rounds)
        digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
        return f"{middle:.{digits}f} {self.claim.unit}"

    def as_plain(self) -> dict[str, object]:
        """For JSON."""
        plain: dict[str, object] = {
            "what": self.claim.what,
            "against": self.claim.against,
            "unit": self.claim.unit,
            "goal": self.claim.goal.value,
            "bound": self.claim.bound,
            "verdict": self.verdict,
            "missing": self.missing,
            "notes": self.notes,
            "rounds": [{"ours": one.ours, "theirs": one.theirs} for one in self.rounds],
        }
        if self.rounds:
            plain["figure"] = self.figure
        return plain
