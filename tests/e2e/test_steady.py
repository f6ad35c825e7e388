"""The soak of a network, for a moment: it counts every job and samples every node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.steady import Sample, growth, run

if TYPE_CHECKING:
    from tests.e2e.nodes import Network


def test_steady_jobs_all_complete_and_each_node_is_sampled(network: Network) -> None:
    first = network.start("node-1")
    second = network.node("node-2")
    network.join(first, second)
    samples, states = run((first, second), seconds=4, pause_s=0.2)
    assert set(states) == {"completed"}
    assert all(len(taken) >= 4 and taken[0].rss_bytes > 10_000_000 for taken in samples)


def test_growth_is_from_the_second_quarter_to_the_last() -> None:
    taken = [Sample(n, 100 if n < 4 else 110, 10 + n, 5) for n in range(8)]
    assert growth(taken) == (110 / 100 - 1, 4)
