"""The plots of a run as PNG: price over time, utilisation, wait, income by provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bacalhau.model.units import MICROCREDITS_PER_CREDIT, SECOND_US
from bacalhau.simulation.measures import CPU_CLASSES
from bacalhau.simulation.report.numbers import number
from bacalhau.simulation.statistics import gini

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.simulation.run import Run

_SIZE_INCHES = (8.0, 4.5)
_DPI = 120
_BINS = 120
_PRICE_BINS = 30
_PROVIDERS_NAMED_MAX = 40
# Colours that people with any kind of colour blindness tell apart (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
_WARNING = "#D55E00"


def write_plots(run: Run, folder: Path) -> list[Path]:
    """Four files; a plot that has nothing to show says so."""
    drawn = []
    for name, draw in (
        ("price", _price),
        ("utilisation", _utilisation),
        ("wait", _wait),
        ("income", _income),
    ):
        path = folder / f"{name}.png"
        _write(run, path, draw)
        drawn.append(path)
    return drawn


def _write(run: Run, path: Path, draw: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if not draw(run, axes):
        axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", transform=axes.transAxes)
    source = f"scenario {run.scenario.name}, seed {run.seed}"
    axes.set_title(source, loc="right", fontsize=8, color="#555555")
    canvas.print_png(str(path), metadata={"Source": source, "Software": "bacalhau"})


def _legend(axes: Any) -> None:
    """On a ground of its own: what it lies upon may be in its colours."""
    axes.legend(framealpha=0.9, edgecolor="none")


def _hours_or_less(times_us: Any) -> tuple[Any, str]:
    """Times in the unit that people would use for so long."""
    import numpy

    times_s = numpy.asarray(times_us, dtype=float) / SECOND_US
    longest = float(times_s.max()) if len(times_s) else 0.0
    for unit_s, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if longest > 3 * unit_s:
            return times_s / unit_s, name
    return times_s, "seconds"


def _price(run: Run, axes: Any) -> bool:
    """Each completed execution a dot, and the mean of each stretch of time."""
    import numpy

    if not run.prices:
        return False
    times, unit = _hours_or_less([when for when, _, _ in run.prices])
    millicores = numpy.array([cpu for _, cpu, _ in run.prices])
    prices = numpy.array([price for _, _, price in run.prices])
    below = 0
    for (ceiling, name), colour in zip(CPU_CLASSES, _COLOURS, strict=False):
        chosen = (millicores > below) & (millicores <= ceiling)
        below = ceiling
        if not chosen.any():
            continue
        axes.plot(times[chosen], prices[chosen], ".", ms=2, alpha=0.25, color=colour, rasterized=True)
        edges = numpy.linspace(times.min(), times.max() + 1e-9, min(_PRICE_BINS, len(times)) + 1)
        places = numpy.digitize(times[chosen], edges) - 1
        middles = [(edges[i] + edges[i + 1]) / 2 for i in numpy.unique(places)]
        means = [float(numpy.mean(prices[chosen][places == i])) for i in numpy.unique(places)]
        axes.plot(middles, means, color=colour, lw=1.8, label=f"{name} (mean)")
    low, high = numpy.percentile(prices, (0, 99))
    axes.set_ylim(0, max(high * 1.15, low * 1.15, 1e-9))
    _legend(axes)
    axes.set_title("Price over time", loc="left")
    axes.set_xlabel(unit)
    axes.set_ylabel("credits for an hour of a core")
    return True


def _utilisation(run: Run, axes: Any) -> bool:
    """Cores in use of those that all nodes have, averaged over each stretch of time."""
    import numpy

    capacity = sum(node.cpu_millicores for node in run.nodes)
    if not run.load or not capacity:
        return False
    when_us = numpy.array([when for when, _ in run.load], dtype=float)
    in_use = numpy.cumsum(numpy.array([change for _, change in run.load], dtype=float))
    edges = numpy.linspace(0, when_us.max(), _BINS + 1)
    spent = numpy.concatenate(([0.0], numpy.cumsum(in_use[:-1] * numpy.diff(when_us))))
    at_edges = numpy.interp(edges, when_us, spent)
    share = numpy.diff(at_edges) / numpy.diff(edges) / capacity
    times, unit = _hours_or_less(edges)
    axes.stairs(share * 100, times, fill=True, color=_COLOURS[0], alpha=0.35)
    axes.stairs(share * 100, times, color=_COLOURS[0], lw=1.2)
    axes.set_ylim(0, max(5.0, min(105.0, float(share.max()) * 120)))
    axes.set_title(f"Utilisation ({capacity / 1000:.0f} cores)", loc="left")
    axes.set_xlabel(unit)
    axes.set_ylabel("percent of all cores in use")
    return True


def _wait(run: Run, axes: Any) -> bool:
    """Share of the completed jobs that had started after so long."""
    import numpy

    waits = [
        (row.started_us - row.submitted_us) / SECOND_US
        for row in run.jobs.rows()
        if row.state == "completed" and row.submitted_us >= run.scenario.warmup_us
    ]
    if not waits:
        return False
    ordered = numpy.sort(numpy.array(waits))
    share = numpy.arange(1, len(ordered) + 1) / len(ordered) * 100
    axes.step(ordered, share, where="post", color=_COLOURS[0], lw=1.8)
    for percent in (50, 90, 99):
        at = float(numpy.percentile(ordered, percent))
        axes.plot([at], [percent], "o", ms=4, color=_WARNING)
        axes.annotate(
            f"p{percent} {number(at)} s",
            (at, percent),
            xytext=(6, -11),
            textcoords="offset points",
            fontsize=8,
        )
    if ordered[-1] > 50 * max(float(numpy.median(ordered)), 1e-3):
        axes.set_xscale("symlog", linthresh=max(1e-2, float(numpy.median(ordered))))
    axes.set_ylim(0, 102)
    axes.set_title("Wait from submission to start", loc="left")
    axes.set_xlabel("seconds")
    axes.set_ylabel("percent of completed jobs")
    return True


def _income(run: Run, axes: Any) -> bool:
    """What each provider was paid, the richest first; cheats in a colour of their own."""
    nodes = sorted(run.nodes, key=lambda node: (-node.income_microcredits, node.id))
    if not nodes:
        return False
    income = [node.income_microcredits / MICROCREDITS_PER_CREDIT for node in nodes]
    groups = dict.fromkeys((node.group, bool(node.cheat)) for node in run.nodes)
    honest = [group for group, cheats in groups if not cheats]
    colour_of = {group: _COLOURS[index % len(_COLOURS)] for index, group in enumerate(honest)}
    colours = [colour_of.get(node.group, _WARNING) for node in nodes]
    axes.bar(range(len(nodes)), income, color=colours, width=0.9 if len(nodes) < 200 else 1.0)
    if len(nodes) <= _PROVIDERS_NAMED_MAX:
        axes.set_xticks(range(len(nodes)), [node.id for node in nodes], rotation=90, fontsize=7)
    else:
        axes.set_xlabel("providers, by income")
    for group, cheats in groups:
        label = f"{group} (cheats)" if cheats else group
        axes.bar([0], [0], color=colour_of.get(group, _WARNING), label=label)
    if len(groups) > 1:
        _legend(axes)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"Income by provider (Gini {gini(income):.2f})", loc="left")
    axes.set_ylabel("credits")
    return True
