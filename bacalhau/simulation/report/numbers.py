"""Figures as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bacalhau.simulation.statistics import Estimate


def number(value: float) -> str:
    """A figure as people read it: four digits that count, whole where it is large."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def interval(found: Estimate, seeds: int) -> str:
    """Half the width, as `± 0.5`, empty of a single run; and how many of the seeds have the figure, if not all."""
    width = f"± {number(found.half_width)}" if found.half_width is not None else ""
    return width if found.runs == seeds else f"{width} ({found.runs} of {seeds} seeds)".strip()
