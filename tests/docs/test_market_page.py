"""The worked examples of the market's page: each is computed by the code that nodes run."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bacalhau.config import DEFAULT_TARIFF
from bacalhau.market.clearing import SealedBid, clear, score
from bacalhau.market.pricehistory import CLASSES, resource_class
from bacalhau.market.pricing import FlatPrice, HeldInputDiscount, LinearPrice, Situation, UtilisationPrice
from bacalhau.model.auction import ClearingRule, ScoringWeights
from bacalhau.model.market import ClaimedInput
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, SECOND_US
from tests.builders import MODULE, a_bid, an_offer
from tests.docs.documents import REPOSITORY, prose, read, rows

if TYPE_CHECKING:
    from bacalhau.model.market import JobOffer

PAGE = "docs/market.md"
EXAMPLE = read(PAGE).split("<!-- example: clearing -->")[1].split("### Reading an award")[0]
WEIGHTS = ScoringWeights(10, 50, 250)
RULES = {
    "first-price": ClearingRule.FIRST_PRICE,
    "uniform": ClearingRule.UNIFORM_PRICE,
    "scoring": ClearingRule.SCORING,
    "posted": ClearingRule.POSTED_PRICE,
}


def text_of_page() -> str:
    return " ".join(prose(read(PAGE)).split())


def number(cell: str) -> int:
    return int(cell.split()[0])


def example_bids() -> list[SealedBid]:
    nodes = [row for row in rows(EXAMPLE) if len(row) == 5 and row[1].isdigit()]
    return [
        SealedBid(
            node,
            a_bid(
                id=f"b-{node}",
                price_microcredits=int(price),
                start_delay_us=number(delay) * SECOND_US,
                missing_input_bytes=number(missing) * GIB,
            ),
            0,
            b"",
            position,
            int(reputation),
        )
        for position, (node, price, delay, missing, reputation) in enumerate(nodes, start=1)
    ]


def example_offer(rule: ClearingRule) -> JobOffer:
    weights = WEIGHTS if rule is ClearingRule.SCORING else ScoringWeights()
    return an_offer(
        id="o-example", winners=2, max_price_microcredits=1000, clearing_rule=rule, weights=weights
    )


@pytest.mark.parametrize("word", RULES)
def test_the_worked_example_is_cleared_as_the_page_says(word: str) -> None:
    said = {row[0]: row[1] for row in rows(EXAMPLE) if len(row) == 2}
    bids = example_bids()
    assert len(bids) == 4
    winners = clear(example_offer(RULES[word]), bids, 2)
    assert ", ".join(f"{w.sealed.node_id} {w.price_microcredits}" for w in winners) == said[word]


def test_the_scores_of_the_worked_example_are_those_of_the_page() -> None:
    scores = {sealed.node_id: score(WEIGHTS, sealed) for sealed in example_bids()}
    text = text_of_page()
    for worked in (
        "ada 400 + 300 = 700",
        "bob 300 + 600 + 100 = 1000",
        "cyd 600",
        "dan 500 + 250 × 0.8 = 700",
    ):
        assert worked in text
        assert scores[worked.split()[0]] == number(worked.split()[-1])


def test_the_worked_utilisation_price_is_what_the_strategy_asks() -> None:
    offer = an_offer(resources=Resources(100, 3 * GIB), execution_timeout_us=SECOND_US)
    machine = Resources(2000, 4 * GIB, 10 * GIB)
    situation = Situation(machine, machine, 0)
    linear = LinearPrice(DEFAULT_TARIFF)
    text = text_of_page()
    assert f"= {UtilisationPrice(linear).price(offer, situation)} microcredits" in read(PAGE)
    assert f"= {linear.price(offer, situation)})" in read(PAGE)
    discounted = HeldInputDiscount(FlatPrice(1000), 400)
    inputs = (ClaimedInput(MODULE, 3 * GIB), ClaimedInput(MODULE, GIB))
    price = discounted.price(an_offer(inputs=inputs), Situation(machine, machine, GIB))
    assert f"is 1000 − {1000 - price} = {price}." in text


def test_the_resource_classes_are_those_of_the_code() -> None:
    listed = {row[0]: row[1] for row in rows(read(PAGE)) if len(row) == 2}
    for name, cpu_millicores, memory_bytes in CLASSES:
        cores = cpu_millicores // 1000
        assert listed[name] == f"{cores} core{'s' * (cores > 1)} and {memory_bytes // GIB} GiB"
        assert resource_class(Resources(cpu_millicores, memory_bytes)) == name
        assert resource_class(Resources(cpu_millicores + 1, memory_bytes)) != name
        assert resource_class(Resources(cpu_millicores, memory_bytes + 1)) != name
    assert resource_class(Resources(16_001, GIB)) == "xlarge"
    assert resource_class(Resources(1, 1, 1, gpu_count=1)) == "gpu"


@pytest.mark.parametrize(("requester_id", "price"), [("12D3KooWOther", 100), ("12D3KooWExample", 200)])
def test_the_price_script_of_the_page_names_a_price(requester_id: str, price: int) -> None:
    question = json.dumps({"price_microcredits": 100, "requester_id": requester_id})
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tests" / "docs" / "price.py"],
        input=question,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{price}\n"
