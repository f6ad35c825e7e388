"""Plots: what is told apart by its colour can be."""

from __future__ import annotations

from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bacalhau.simulation.measures import JobColumns, NodeTotals
from bacalhau.simulation.reading import find_scenario, read_scenario
from bacalhau.simulation.report.plots import _income
from bacalhau.simulation.run import Run


def test_groups_of_providers_have_colours_of_their_own_and_all_cheats_one() -> None:
    kinds = [
        ("office", ""),
        ("cluster", ""),
        ("hobby", ""),
        ("club", ""),
        ("forger", "copies"),
        ("liar", "conceals"),
    ]
    nodes = tuple(NodeTotals(f"{group}-1", group, cheat, 4000, 1_000_000) for group, cheat in kinds)
    scenario = read_scenario(*find_scenario("cheats"))
    axes = Figure().subplots()
    assert _income(Run(scenario, 1, {}, JobColumns(), None, nodes, [], [], {}, "", 0), axes)
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_frame_on()  # all bars are as high as the plot: the legend lies upon them
    colours = {
        text.get_text(): to_hex(patch.get_facecolor())
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    honest = [colours[name] for name in ("office", "cluster", "hobby", "club")]
    assert len(set(honest)) == 4
    assert colours["forger (cheats)"] == colours["liar (cheats)"] not in honest
    bars = [to_hex(bar.get_facecolor()) for bar in axes.patches[: len(nodes)]]
    by_id = sorted(nodes, key=lambda node: node.id)
    assert bars == [colours[f"{node.group} (cheats)" if node.cheat else node.group] for node in by_id]
