"""Hypothesis strategies for everything of the model that travels: each value is one that a peer accepts."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from bacalhau.model.auction import (
    AuctionTerms,
    ClearedAward,
    Clearing,
    ClearingRule,
    ScoringWeights,
)
from bacalhau.model.cid import DAG_PB, RAW, Cid
from bacalhau.model.execution import ExecutionPhase, ExecutionReport, Fault, FaultKind, Usage
from bacalhau.model.job import (
    Constraint,
    ConstraintOperator,
    DockerTask,
    Engine,
    InputSource,
    JobSpec,
    NetworkMode,
    OutputPath,
    Timeouts,
    WasmImport,
    WasmTask,
)
from bacalhau.model.ledger import Receipt, SettlementNote
from bacalhau.model.market import (
    Award,
    Bid,
    ClaimedInput,
    Decline,
    JobOffer,
    LeaseRenewal,
    PaymentTerms,
    Tariff,
)
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Conduct, ConductCount, Reputation, Role
from bacalhau.model.resources import Resources
from bacalhau.model.units import DAY_US, PPM
from bacalhau.model.verification import ResultCommitment, Verification, VerificationPolicy
from bacalhau.wire import limits
from bacalhau.wire.identity import NodeKey
from bacalhau.wire.job import RESERVED_OUTPUT_NAMES
from bacalhau.wire.statements import Acknowledgement, Cancellation, LogRequest, OfferClosed, RevealRequest

# Keys cost 60 us each: a few, made once.
KEYS = tuple(NodeKey(hashlib.sha256(bytes([index])).digest()) for index in range(4))

node_keys = st.sampled_from(KEYS)
node_ids = st.sampled_from([key.node_id for key in KEYS])
digests = st.binary(min_size=32, max_size=32)
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,60}", fullmatch=True)
prices = st.integers(0, limits.MAX_PRICE_MICROCREDITS)
byte_counts = st.integers(0, limits.MAX_BYTES)
timeouts_us = st.integers(1, limits.MAX_TIMEOUT_US)

_characters = st.characters(exclude_categories=["Cs", "Cc"])
names = st.text(_characters, max_size=30)
nonempty_names = st.text(_characters, min_size=1, max_size=30)
messages = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=60)
arguments = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)

cids = st.builds(
    lambda content, form: Cid.of(form[1], content, version=form[0]),
    st.binary(max_size=8),
    st.sampled_from([(0, DAG_PB), (1, DAG_PB), (1, RAW), (1, 0x71)]),
)

path_components = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
paths = st.lists(path_components, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))

images = st.sampled_from(
    [
        "ubuntu",
        "ubuntu:24.04",
        "library/busy_box",
        "ghcr.io/a-b/c__d:v1.2-rc_3",
        "localhost:5000/x",
        "[::1]:5000/x/y",
        "127.0.0.1:5000/ubuntu@sha256:" + "ab" * 32,
    ]
)

resources = st.builds(
    Resources,
    st.integers(1, limits.MAX_CPU_MILLICORES),
    st.integers(1, limits.MAX_BYTES),
    st.integers(1, limits.MAX_BYTES),
    st.integers(0, limits.MAX_GPUS),
)
labels = st.lists(st.tuples(nonempty_names, names), max_size=3, unique_by=lambda label: label[0]).map(tuple)

constraints = st.one_of(
    st.builds(
        Constraint,
        nonempty_names,
        st.sampled_from([ConstraintOperator.IN, ConstraintOperator.NOT_IN]),
        st.lists(names, min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Constraint,
        nonempty_names,
        st.sampled_from([ConstraintOperator.EXISTS, ConstraintOperator.NOT_EXISTS]),
    ),
)

docker_tasks = st.builds(
    DockerTask,
    images,
    st.lists(arguments, max_size=3).map(tuple),
    st.lists(arguments, max_size=3).map(tuple),
    st.just("") | st.just("/") | paths,
)
wasm_tasks = st.builds(
    WasmTask,
    cids,
    nonempty_names,
    st.lists(arguments, max_size=3).map(tuple),
    st.lists(
        st.builds(WasmImport, nonempty_names, cids), max_size=3, unique_by=lambda module: module.name
    ).map(tuple),
)


weights = st.builds(ScoringWeights, prices, prices, prices)
# Terms with the ceiling, for some rules need one.
terms_and_ceilings = st.one_of(
    st.tuples(st.builds(AuctionTerms), st.none() | prices),
    st.tuples(st.builds(AuctionTerms, st.just(ClearingRule.SCORING), weights), st.none() | prices),
    st.tuples(st.sampled_from([AuctionTerms(rule) for rule in ClearingRule if rule.needs_reserve]), prices),
)
verifications = st.one_of(
    st.just(Verification()),
    st.builds(Verification, st.just(VerificationPolicy.REPLICATED), st.integers(2, 20), st.booleans()),
    st.builds(Verification, st.just(VerificationPolicy.ADAPTIVE), st.just(2), st.booleans()),
)


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    """A job spec: targets and output paths are all different."""
    places = draw(st.lists(paths, max_size=4, unique=True))
    cut = draw(st.integers(0, len(places)))
    output_names = draw(
        st.lists(
            path_components.filter(lambda name: name not in RESERVED_OUTPUT_NAMES),
            min_size=len(places) - cut,
            max_size=len(places) - cut,
            unique=True,
        )
    )
    auction, ceiling = draw(terms_and_ceilings)
    verification = draw(verifications)
    counts = {
        VerificationPolicy.NONE: st.integers(1, limits.MAX_COUNT),
        VerificationPolicy.REPLICATED: st.integers(verification.confidence, limits.MAX_COUNT),
        VerificationPolicy.ADAPTIVE: st.just(1),
    }
    variables = st.tuples(nonempty_names.filter(lambda name: "=" not in name), arguments)
    return JobSpec(
        task=draw(docker_tasks | wasm_tasks),
        name=draw(names),
        labels=draw(labels),
        count=draw(counts[verification.policy]),
        env=tuple(draw(st.lists(variables, max_size=3, unique_by=lambda variable: variable[0]))),
        inputs=tuple(InputSource(draw(cids), place, draw(names)) for place in places[:cut]),
        outputs=tuple(
            OutputPath(name, place) for name, place in zip(output_names, places[cut:], strict=True)
        ),
        resources=draw(resources),
        network=draw(st.sampled_from(NetworkMode)),
        timeouts=draw(
            st.builds(
                Timeouts,
                timeouts_us,
                st.none() | st.integers(0, limits.MAX_TIMEOUT_US),
                st.none() | timeouts_us,
            )
        ),
        constraints=tuple(draw(st.lists(constraints, max_size=3))),
        max_price_microcredits=ceiling,
        auction=auction,
        verification=verification,
    )


payments = st.builds(PaymentTerms, st.integers(0, PPM), timeouts_us)


@st.composite
def offers(draw: st.DrawFn) -> JobOffer:
    engine = draw(st.sampled_from(Engine))
    terms, ceiling = draw(terms_and_ceilings)
    return JobOffer(
        id=draw(ids),
        job_id=draw(ids),
        engine=engine,
        image_or_module=draw(images if engine is Engine.DOCKER else cids.map(str)),
        inputs=tuple(draw(st.lists(st.builds(ClaimedInput, cids, byte_counts), max_size=3))),
        resources=draw(resources),
        network=draw(st.sampled_from(NetworkMode)),
        execution_timeout_us=draw(timeouts_us),
        constraints=tuple(draw(st.lists(constraints, max_size=3))),
        winners=draw(st.integers(1, limits.MAX_COUNT)),
        max_price_microcredits=ceiling,
        clearing_rule=terms.rule,
        weights=terms.weights,
        bid_window_us=draw(st.integers(1, limits.MAX_BID_WINDOW_US)),
        open_for_us=draw(st.integers(0, limits.MAX_TIMEOUT_US)),
        spec_digest=draw(digests),
        payment=draw(payments),
    )


figures = st.tuples(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.integers(-(2**63), 2**63 - 1))
refusals = st.builds(
    Refusal, st.sampled_from(RefusalReason), messages, st.lists(figures, max_size=3).map(tuple)
)
bids = st.builds(
    Bid, ids, ids, prices, timeouts_us, st.integers(0, limits.MAX_TIMEOUT_US), byte_counts, prices
)
declines = st.builds(Decline, ids, refusals)
acknowledgements = st.builds(
    Acknowledgement,
    ids,
    digests,
    st.none() | refusals,
    st.none() | st.integers(0, limits.MAX_TIMESTAMP_US),
    st.integers(0, limits.MAX_BIDS_PER_OFFER),
    st.integers(0, 1000),
)
clearings = st.builds(
    Clearing,
    offer_id=ids,
    job_id=ids,
    clearing_rule=st.sampled_from(ClearingRule),
    cleared_us=st.integers(0, limits.MAX_TIMESTAMP_US),
    slots=st.integers(1, limits.MAX_COUNT),
    acknowledged_bids=st.integers(0, limits.MAX_BIDS_PER_OFFER),
    bid_set_digest=digests,
    awards=st.lists(st.builds(ClearedAward, ids, ids, ids, prices), max_size=3).map(tuple),
)
awards = st.builds(
    Award,
    execution_id=ids,
    job_id=ids,
    offer_id=ids,
    bid_id=ids,
    price_microcredits=prices,
    clearing_rule=st.sampled_from(ClearingRule),
    bid_set_digest=digests,
    spec=specs(),
    lease_us=st.integers(1, limits.MAX_LEASE_US),
    payment=payments,
    bond_microcredits=prices,
)
attempts = st.integers(0, limits.MAX_ATTEMPT)
renewals = st.builds(LeaseRenewal, ids, st.sampled_from(ExecutionPhase), attempts, byte_counts, byte_counts)
offers_closed = st.builds(OfferClosed, ids)
cancellations = st.builds(Cancellation, ids, messages)
log_requests = st.builds(LogRequest, ids, st.booleans())

faults = st.builds(Fault, st.sampled_from(FaultKind), messages)
usages = st.builds(Usage, st.integers(0, limits.MAX_TIMEOUT_US), *[byte_counts] * 4)
reports = st.builds(
    ExecutionReport,
    ids,
    attempts,
    st.none() | cids,
    st.integers(-(2**31), 2**31 - 1),
    usages,
    st.none() | faults,
    st.booleans(),
    st.just(b"") | digests,
)
_counts = st.integers(0, 2**62)
reputations = st.builds(
    Reputation,
    node_ids,
    st.sampled_from(Role),
    st.integers(0, 2**60),
    st.lists(st.builds(ConductCount, st.sampled_from(Conduct), _counts, _counts), max_size=8).map(tuple),
    _counts,
)
commitments = st.builds(ResultCommitment, ids, attempts, digests)
reveal_requests = st.builds(RevealRequest, ids)

balances = st.integers(-limits.MAX_BALANCE_MICROCREDITS, limits.MAX_BALANCE_MICROCREDITS)
sequences = st.integers(1, limits.MAX_SEQUENCE)
receipts = st.builds(
    Receipt,
    requester_id=node_ids,
    node_id=node_ids,
    sequence=sequences,
    balance_microcredits=balances,
    execution_id=ids,
    job_id=ids,
    offer_id=ids,
    bid_id=ids,
    price_microcredits=prices,
    clearing_rule=st.sampled_from(ClearingRule),
    bid_set_digest=digests,
    payment=payments,
    execution_timeout_us=timeouts_us,
    usage=usages,
    result=cids,
    exit_code=st.integers(-(2**31), 2**31 - 1),
    pay_microcredits=prices,
    rejection=st.none() | faults,
    time_us=st.integers(0, limits.MAX_TIMESTAMP_US),
    bond_microcredits=prices,
    penalty_microcredits=prices,
)
notes = st.builds(
    SettlementNote, node_ids, node_ids, sequences, balances, st.integers(0, limits.MAX_TIMESTAMP_US)
)

tariffs = st.builds(Tariff, prices, prices, prices, prices)
addresses = st.builds(
    lambda host, port: f"{host}:{port}",
    st.sampled_from(["127.0.0.1", "[::1]", "node-1.example", "[fe80::1:2]"]),
    st.integers(1, 65535),
)
multiaddrs = st.builds(
    lambda host, port: f"/{host}/tcp/{port}",
    st.sampled_from(["ip4/127.0.0.1", "ip6/::1", "dns4/node-1.example", "ip6/fe80::1:2"]),
    st.integers(1, 65535),
)


def records(node_id: st.SearchStrategy[str] = node_ids) -> st.SearchStrategy[NodeRecord]:
    return st.builds(
        NodeRecord,
        node_id=node_id,
        addresses=st.lists(addresses, max_size=3, unique=True).map(tuple),
        certificate_digest=digests,
        sequence=st.integers(0, 2**63 - 1),
        compute=st.booleans(),
        requester=st.booleans(),
        engines=st.lists(st.sampled_from(Engine), unique=True, max_size=2).map(tuple),
        capacity=resources | st.just(Resources()),
        labels=labels,
        version=names,
        tariff=tariffs,
        multiaddrs=st.lists(multiaddrs, max_size=3, unique=True).map(tuple),
    )


def bodies(key: NodeKey) -> st.SearchStrategy[object]:
    """Every kind of statement that `key` may sign."""
    return st.one_of(
        records(st.just(key.node_id)),
        offers(),
        bids,
        declines,
        acknowledgements,
        awards,
        offers_closed,
        renewals,
        cancellations,
        log_requests,
        reports,
        clearings,
        commitments,
        reveal_requests,
        receipts,
        notes,
    )


instants_us = st.integers(DAY_US, limits.MAX_TIMESTAMP_US - DAY_US)
validities_us = st.integers(1, limits.MAX_VALID_FOR_US)
