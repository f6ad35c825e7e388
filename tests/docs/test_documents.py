"""The documents name everything that there is, and nothing that there is not."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from bacalhau.cli.main import parser
from bacalhau.config import DEFAULT_TARIFF, Settings
from bacalhau.ipfs import packstore
from bacalhau.ipfs.recent import RecentBlocks
from bacalhau.market.bidding import BiddingPolicy
from bacalhau.market.payment import pay_microcredits
from bacalhau.market.pricing import LinearPrice, Situation
from bacalhau.model.auction import ClearingRule
from bacalhau.model.execution import FaultKind, Usage
from bacalhau.model.job import DEFAULT_EXECUTION_TIMEOUT_US, Engine, JobState, NetworkMode
from bacalhau.model.market import JobOffer, Tariff
from bacalhau.model.quantities import format_duration
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.resources import DEFAULT_JOB_RESOURCES, Resources
from bacalhau.model.units import MIB, MICROCREDITS_PER_CREDIT, SECOND_US
from bacalhau.node import recent, small_results
from bacalhau.node.membership import PEERS_MAX
from bacalhau.node.results import RESULT_BYTES_MAX
from bacalhau.p2p import dht, providers
from bacalhau.rpc import limits
from bacalhau.rpc.status import grpc_code
from bacalhau.scheduler.config import DEFAULT_CREDIT, DEFAULT_PAYMENT, ComputeConfig, RequesterConfig
from bacalhau.v1 import (
    block_service_pb2,
    compute_service_pb2,
    ipfs_service_pb2,
    job_service_pb2,
    ledger_service_pb2,
    market_service_pb2,
    node_service_pb2,
    peer_service_pb2,
    requester_service_pb2,
)
from bacalhau.wire.limits import MAX_INLINE_BYTES, MAX_SPEC_BYTES
from tests.docs.documents import DOCUMENTS, REPOSITORY, anchors, blocks, code_spans, links, prose, read, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICE_MODULES = (
    block_service_pb2,
    compute_service_pb2,
    ipfs_service_pb2,
    job_service_pb2,
    ledger_service_pb2,
    market_service_pb2,
    node_service_pb2,
    peer_service_pb2,
    requester_service_pb2,
)
CALLS = sorted(
    (service.name, method.name)
    for module in SERVICE_MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
COMMAND = re.compile(r"^(?:\$ |    )(bacalhau .+)$", re.MULTILINE)
# Flags of other programs that documents name, and of the project's scripts.
FOREIGN_FLAGS = frozenset({"--accept", "--delay", "--names", "--rm", "--strict"})


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in paths]


def command_lines(text: str) -> list[str]:
    """What is typed: `$ bacalhau …` in blocks, cut where the shell goes on to something else."""
    typed = [line for block in blocks(text) for line in COMMAND.findall(block.text)]
    lines = []
    for line in typed:
        words = shlex.shlex(line, posix=True, punctuation_chars="|>&;")
        words.whitespace_split = True
        kept = []
        for word in words:
            if set(word) <= set("|>&;"):
                break
            kept.append(word)
        lines.append(shlex.join(kept))
    return lines


def subparsers(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def all_parsers(of: argparse.ArgumentParser, verb: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield verb, of
    for name, below in subparsers(of).items():
        yield from all_parsers(below, f"{verb} {name}".strip())


def shown_flags(of: argparse.ArgumentParser) -> list[str]:
    return [
        flag
        for action in of._actions
        if action.help != argparse.SUPPRESS
        for flag in action.option_strings
        if flag.startswith("--") and flag != "--help"
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_relative_links_lead_to_files_and_headings_that_are_there(document: Path) -> None:
    wrong = []
    for link in links(document.read_text()):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_command_line_shown_is_one_that_the_parser_takes(document: Path) -> None:
    for line in command_lines(document.read_text()):
        try:
            parser().parse_args(shlex.split(line)[1:])
        except SystemExit as refused:
            pytest.fail(f"{line!r} ends with {refused.code}")


def test_command_lines_are_found_and_a_wrong_one_is_refused() -> None:
    text = "```console\n$ bacalhau list --no-such-flag > file\n$ echo bacalhau\n```\n"
    assert command_lines(text) == ["bacalhau list --no-such-flag"]
    with pytest.raises(SystemExit):
        parser().parse_args(["list", "--no-such-flag"])
    assert len(command_lines(read("README.md"))) > 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_verbs_and_flags_named_in_the_text_are_there(document: Path) -> None:
    verbs = [verb for verb, _ in all_parsers(parser()) if verb]
    flags = {flag for _, of in all_parsers(parser()) for flag in shown_flags(of)} | {"--help"} | FOREIGN_FLAGS
    wrong = []
    for span in code_spans(document.read_text()):
        words = span.split()
        if words[0] == "bacalhau" and len(words) > 1 and words[1].islower():
            wrong += [span] if words[1] not in verbs else []
        if words[0] != "scripts/protos":
            wrong += [
                word
                for word in words
                if re.fullmatch(r"--[a-z-]+[a-z]", word) and word not in flags and "scripts/" not in span
            ]
    assert not wrong


def test_every_verb_is_in_the_page_of_the_command_line() -> None:
    spans = code_spans(read("docs/cli.md"))
    leaves = [verb for verb, of in all_parsers(parser()) if verb and not subparsers(of)]
    assert [verb for verb in leaves if verb not in spans] == []


def test_every_flag_of_serve_is_in_the_page_of_operations() -> None:
    words = {word for span in code_spans(read("docs/operations.md")) for word in span.split()}
    serve = dict(all_parsers(parser()))["serve"]
    assert [flag for flag in shown_flags(serve) if flag not in words] == []


def test_every_call_of_the_protocol_is_in_the_page_of_the_api_under_its_service() -> None:
    listed = []
    service = ""
    for first, *cells in rows(read("docs/grpc.md")):
        service = first if first.endswith("Service") else service if not first else ""
        if service:
            listed.append((service, cells[0]))
    assert sorted(listed) == CALLS


def test_every_refusal_is_listed_in_its_order_with_its_status() -> None:
    listed = [tuple(row[:2]) for row in rows(read("docs/market.md")) if row[0] in RefusalReason.__members__]
    expected = [
        (reason.name, "".join(word.capitalize() for word in grpc_code(reason).name.split("_")))
        for reason in RefusalReason
    ]
    assert listed == expected


def test_every_fault_is_listed_with_whether_it_is_tried_elsewhere() -> None:
    listed = {row[0]: row[2] for row in rows(read("docs/jobs.md")) if row[0] in FaultKind.__members__}
    assert sorted(listed) == sorted(FaultKind.__members__)
    for name, tried in listed.items():
        assert (tried == "no") is FaultKind[name].blames_job, name


def test_every_state_of_a_job_is_explained() -> None:
    explained = [row[0] for row in rows(read("docs/jobs.md"))]
    assert [state.name.capitalize() for state in JobState if state.name.capitalize() not in explained] == []


def test_defaults_of_serve_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    given = {row[0]: row[1] for row in rows(read("docs/operations.md")) if len(row) > 1}
    tariff = settings.tariff
    rates = (
        tariff.start_microcredits,
        tariff.cpu_second_microcredits,
        tariff.memory_gib_second_microcredits,
        tariff.input_gib_microcredits,
    )
    prices = "`--price-start`, `--price-cpu-second`, `--price-memory-gib-second`, `--price-input-gib`"
    assert given[prices] == f"{', '.join(map(str, rates))} microcredits"
    for flag, duration_us in (
        ("bid-window", settings.bid_window_us),
        ("lease", settings.lease_us),
        ("heartbeat", settings.heartbeat_us),
        ("keep-jobs", settings.keep_jobs_us),
        ("keep-results", settings.keep_results_us),
        ("max-timeout", settings.execution_timeout_max_us),
    ):
        shown = re.split("[:,]", given[f"`--{flag}`"])[0]
        assert shown == format_duration(duration_us), flag
    assert given["`--host`, `--api-port` (`--port`)"] == f"{settings.api_host}, {settings.api_port}"
    peer_flags = "`--peer-host`, `--peer-port` (`--swarm-port`)"
    assert given[peer_flags] == f"{settings.peer_host}, {settings.peer_port}"
    assert given["`--offers-to`"].startswith("all:")
    assert settings.offers_to == 0
    assert f"{settings.disk_reserve_bytes // MIB} MiB are kept free" in read("docs/operations.md")


def test_limits_are_those_of_the_code() -> None:
    given = {row[0]: row[1] for row in rows(read("docs/operations.md")) if len(row) == 2}
    requester, compute = RequesterConfig(), ComputeConfig(BiddingPolicy(Resources(), Resources()))
    kib = 1024
    assert given["open jobs of a requester"] == f"{requester.open_jobs_max:,}"
    answers = f"{requester.answers_per_offer_max:,} nodes, {requester.answers_per_node_max} of each"
    assert given["answers to one offer"] == answers
    assert given["open offers that a compute node remembers"] == f"{compute.remembered_offers_max:,}"
    assert given["executions for each that a job wants"] == str(requester.attempts_per_execution_max)
    assert given["attempts of an execution after restarts of its node"] == str(compute.attempts_max)
    client_mib, peer_mib = limits.MESSAGE_BYTES_MAX // MIB, limits.PEER_MESSAGE_BYTES_MAX // MIB
    assert given["one message"] == f"{client_mib} MiB (client API), {peer_mib} MiB (peer API)"
    assert given["offers in one call"] == str(limits.OFFERS_PER_CALL_MAX)
    assert given["job spec"] == (
        f"{MAX_SPEC_BYTES // kib} KiB without its inline data; inline data {MAX_INLINE_BYTES // MIB} MiB"
    )
    assert given["known nodes"] == f"{PEERS_MAX:,}"
    largest = f"twice the job's disk and 1 MiB, at most {RESULT_BYTES_MAX >> 30} GiB"
    assert given["result that a requester fetches"] == largest


def test_what_is_kept_in_memory_is_bounded_as_the_document_says() -> None:
    small = RecentBlocks()
    bounds = (
        f"{recent.JOBS_MAX:,} jobs",
        f"{small._max_blocks:,} blocks, {small._max_bytes // MIB} MiB",
        f"{small_results._REMEMBERED_MAX:,} results",
        f"{providers.KEYS_MAX:,} keys, 2 MiB",
        f"{dht.WAITING_MAX:,} results",
        f"{packstore._CACHE_KIB} KiB",
    )
    memory = read("docs/operations.md").split("## Memory")[1].split("## Restarts")[0]
    assert set(bounds) <= {row[1] for row in rows(memory)}


def price_of(tariff: Tariff, timeout_us: int) -> int:
    """What the default tariff asks for a job with the default resources and no inputs."""
    offer = JobOffer(
        id="o-1",
        job_id="j-1",
        engine=Engine.DOCKER,
        image_or_module="ubuntu",
        inputs=(),
        resources=DEFAULT_JOB_RESOURCES,
        network=NetworkMode.NONE,
        execution_timeout_us=timeout_us,
        constraints=(),
        winners=1,
        max_price_microcredits=None,
        clearing_rule=ClearingRule.FIRST_PRICE,
        bid_window_us=SECOND_US,
        open_for_us=SECOND_US,
        spec_digest=b"",
    )
    return LinearPrice(tariff).price(offer, Situation(Resources(), Resources(), 0))


def test_the_worked_prices_are_what_the_strategy_asks() -> None:
    text = " ".join(prose(read("docs/market.md")).split())
    default = price_of(DEFAULT_TARIFF, DEFAULT_EXECUTION_TIMEOUT_US)
    short = price_of(DEFAULT_TARIFF, 60 * SECOND_US)
    cheap = Tariff(
        DEFAULT_TARIFF.start_microcredits,
        5,
        DEFAULT_TARIFF.memory_gib_second_microcredits,
        DEFAULT_TARIFF.input_gib_microcredits,
    )
    assert f"= {default} microcredits" in text
    assert f"= {short}. With `--price-cpu-second 5`" in text
    assert f"the first is {price_of(cheap, DEFAULT_EXECUTION_TIMEOUT_US)}." in text


def test_the_worked_pay_is_what_the_terms_of_an_offer_make_due() -> None:
    text = " ".join(prose(read("docs/market.md")).split())
    price = price_of(DEFAULT_TARIFF, DEFAULT_EXECUTION_TIMEOUT_US)
    half, short = (
        pay_microcredits(
            price, DEFAULT_PAYMENT, Usage(wall_us=seconds * SECOND_US), DEFAULT_EXECUTION_TIMEOUT_US
        )
        for seconds in (900, 1)
    )
    assert f"Run for 15 minutes of its 30 it is paid {half}; for a second, {short};" in text
    assert DEFAULT_CREDIT.peer_limit_microcredits == 10 * MICROCREDITS_PER_CREDIT
    assert DEFAULT_CREDIT.unproven_limit_microcredits == 10 * MICROCREDITS_PER_CREDIT


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_files_that_are_named_are_there(document: str) -> None:
    named = [
        span
        for span in code_spans(read(document))
        if re.fullmatch(r"[\w./-]+\.(py|proto|cfg|txt|md)", span) and "NAME" not in span and "…" not in span
    ]
    assert named
    found = [path.relative_to(REPOSITORY).as_posix() for path in source_files()]
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in found)] == []


def source_files() -> list[Path]:
    folders = ("bacalhau", "docs", "proto", "requirements", "scripts", "tests")
    inside = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.*")]
    return inside + list(REPOSITORY.glob("*.*"))
