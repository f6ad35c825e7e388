"""How a job's auctions are cleared: flags and job files to the protocol's terms, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bacalhau.cli.failures import UsageFailure
from bacalhau.cli.parsing import quantity
from bacalhau.model import quantities

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.jobfile_read import Field
    from bacalhau.v1.auction_pb2 import AuctionTerms, ClearingRule
    from bacalhau.v1.job_pb2 import JobSpec

RULES = ("first-price", "uniform", "scoring", "posted")
# Key of a job file, and flag -> field of ScoringWeights.
WEIGHTS = {
    "StartDelaySecond": "start_delay_second_microcredits",
    "InputGiB": "input_gib_microcredits",
    "Reputation": "reputation_microcredits",
}
_FLAGS = {
    "weight_start_delay": "start_delay_second_microcredits",
    "weight_input": "input_gib_microcredits",
    "weight_reputation": "reputation_microcredits",
}


def add_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--auction",
        choices=RULES,
        help="first-price: the cheapest, each paid its bid (the default); uniform: the cheapest, all paid the "
        "lowest price that lost; scoring: by price and the weights; posted: whoever takes --max-price first",
    )
    price = quantity(quantities.parse_price)
    for flag, meaning in (
        ("--weight-start-delay", "a second until the program starts"),
        ("--weight-input", "a GiB of input that has to be fetched"),
        ("--weight-reputation", "no reputation at all"),
    ):
        group.add_argument(flag, type=price, metavar="CREDITS", help=f"with scoring: what {meaning} costs")


def terms_of(args: argparse.Namespace) -> AuctionTerms | None:
    """None where nothing was said. Raises UsageFailure."""
    from bacalhau.v1.auction_pb2 import AuctionTerms

    weights = {
        field: getattr(args, flag) for flag, field in _FLAGS.items() if getattr(args, flag) is not None
    }
    if args.auction is None and not weights:
        return None
    if weights and args.auction != "scoring":
        raise UsageFailure("weights are for --auction scoring: leave them out, or give that")
    if args.auction in ("uniform", "posted") and args.max_price is None:
        raise UsageFailure(
            f"--auction {args.auction} needs --max-price: it is the price, or becomes it when nobody loses"
        )
    terms = AuctionTerms(rule=_rule(args.auction))
    for field, value in weights.items():
        setattr(terms.weights, field, value)
    return terms


def read_terms(field: Field, spec: JobSpec) -> None:
    """The value of a job file's key `Auction`. Raises JobFileFailure."""
    fields = field.known("Rule", "Weights")
    rule = fields["Rule"].text().lower() if "Rule" in fields else "first-price"
    if rule not in RULES:
        raise fields["Rule"].failure(f"{rule!r} is no rule: use {', '.join(RULES)}")
    spec.auction.rule = _rule(rule)
    weights = fields["Weights"].known(*WEIGHTS) if "Weights" in fields else {}
    for key, value in weights.items():
        setattr(spec.auction.weights, WEIGHTS[key], value.parsed(quantities.parse_price))


def plain_terms(terms: AuctionTerms) -> dict[str, Any]:
    """As a job file has them."""
    written: dict[str, Any] = {"Rule": rule_word(terms.rule)}
    weights = {
        key: quantities.format_price(getattr(terms.weights, field))
        for key, field in WEIGHTS.items()
        if getattr(terms.weights, field)
    }
    return written | ({"Weights": weights} if weights else {})


def rule_word(rule: int) -> str:
    """A rule as flags and job files name it."""
    from bacalhau.v1.auction_pb2 import ClearingRule

    if not rule:
        return RULES[0]
    try:
        name = ClearingRule.Name(rule)
    except ValueError:  # a newer node's value
        return str(rule)
    word = name.removeprefix("CLEARING_RULE_").lower().replace("_", "-")
    return word if word in RULES else word.removesuffix("-price")


def _rule(word: str) -> ClearingRule:
    from bacalhau.v1 import auction_pb2

    rules: dict[str, ClearingRule] = {
        "first-price": auction_pb2.CLEARING_RULE_FIRST_PRICE,
        "uniform": auction_pb2.CLEARING_RULE_UNIFORM_PRICE,
        "scoring": auction_pb2.CLEARING_RULE_SCORING,
        "posted": auction_pb2.CLEARING_RULE_POSTED_PRICE,
    }
    return rules[word]
