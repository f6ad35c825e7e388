"""Builders of model values for tests: every field has a default, and a test names those it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.bidding import BiddingPolicy
from bacalhau.market.clearing import SealedBid
from bacalhau.model.auction import FIRST_PRICE_TERMS, NO_WEIGHTS, AuctionTerms, ClearingRule, ScoringWeights
from bacalhau.model.cid import DAG_PB, Cid
from bacalhau.model.execution import ExecutionReport, Usage
from bacalhau.model.job import DockerTask, Engine, JobSpec, NetworkMode, Timeouts, WasmTask
from bacalhau.model.ledger import Receipt
from bacalhau.model.market import WHOLE_PRICE, Award, Bid, JobOffer, PaymentTerms
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, PPM, SECOND_US
from bacalhau.model.verification import NO_VERIFICATION, Verification
from bacalhau.scheduler.config import ComputeConfig

if TYPE_CHECKING:
    from bacalhau.model.execution import Fault
    from bacalhau.model.job import Constraint, InputSource
    from bacalhau.model.market import ClaimedInput

IMAGE = "busybox"
MODULE = Cid.of(DAG_PB, b"a module")
RESULT = Cid.of(DAG_PB, b"a result")
SPEC_DIGEST = b"digest of the spec"
JOB_RESOURCES = Resources(cpu_millicores=1000, memory_bytes=GIB, disk_bytes=GIB)
NODE_CAPACITY = Resources(cpu_millicores=2000, memory_bytes=4 * GIB, disk_bytes=10 * GIB)


def a_spec(
    *,
    task: WasmTask | DockerTask | None = None,
    count: int = 1,
    inputs: tuple[InputSource, ...] = (),
    resources: Resources = JOB_RESOURCES,
    network: NetworkMode = NetworkMode.NONE,
    execution_us: int = 60 * SECOND_US,
    queue_us: int | None = None,
    total_us: int | None = None,
    constraints: tuple[Constraint, ...] = (),
    max_price_microcredits: int | None = None,
    auction: AuctionTerms = FIRST_PRICE_TERMS,
    verification: Verification = NO_VERIFICATION,
) -> JobSpec:
    return JobSpec(
        task=task or DockerTask(IMAGE, command=("true",)),
        count=count,
        inputs=inputs,
        resources=resources,
        network=network,
        timeouts=Timeouts(execution_us, queue_us, total_us),
        constraints=constraints,
        max_price_microcredits=max_price_microcredits,
        auction=auction,
        verification=verification,
    )


def an_offer(
    *,
    id: str = "o-1",
    job_id: str = "j-1",
    engine: Engine = Engine.DOCKER,
    image_or_module: str = IMAGE,
    inputs: tuple[ClaimedInput, ...] = (),
    resources: Resources = JOB_RESOURCES,
    network: NetworkMode = NetworkMode.NONE,
    execution_timeout_us: int = 60 * SECOND_US,
    constraints: tuple[Constraint, ...] = (),
    winners: int = 1,
    max_price_microcredits: int | None = None,
    clearing_rule: ClearingRule = ClearingRule.FIRST_PRICE,
    weights: ScoringWeights = NO_WEIGHTS,
    open_for_us: int = 3600 * SECOND_US,
    spec_digest: bytes = SPEC_DIGEST,
    payment: PaymentTerms = WHOLE_PRICE,
) -> JobOffer:
    return JobOffer(
        id=id,
        job_id=job_id,
        engine=engine,
        image_or_module=image_or_module,
        inputs=inputs,
        resources=resources,
        network=network,
        execution_timeout_us=execution_timeout_us,
        constraints=constraints,
        winners=winners,
        max_price_microcredits=max_price_microcredits,
        clearing_rule=clearing_rule,
        bid_window_us=SECOND_US,
        open_for_us=open_for_us,
        spec_digest=spec_digest,
        weights=weights,
        payment=payment,
    )


def a_bid(
    *,
    id: str = "b-1",
    offer_id: str = "o-1",
    price_microcredits: int = 100,
    valid_for_us: int = 10 * SECOND_US,
    start_delay_us: int = 0,
    missing_input_bytes: int = 0,
    bond_microcredits: int = 0,
) -> Bid:
    return Bid(
        id,
        offer_id,
        price_microcredits,
        valid_for_us,
        start_delay_us,
        missing_input_bytes,
        bond_microcredits,
    )


def a_sealed_bid(
    *,
    node_id: str = "n1",
    bid: Bid | None = None,
    received_us: int = 0,
    digest: bytes = b"envelope",
    position: int = 1,
    reputation_permille: int = 1000,
    issued_us: int = 0,
) -> SealedBid:
    return SealedBid(node_id, bid or a_bid(), received_us, digest, position, reputation_permille, issued_us)


def an_award(
    *,
    execution_id: str = "e-1",
    offer_id: str = "o-1",
    bid_id: str = "b-1",
    price_microcredits: int = 100,
    clearing_rule: ClearingRule = ClearingRule.FIRST_PRICE,
    spec: JobSpec | None = None,
    lease_us: int = 30 * SECOND_US,
) -> Award:
    return Award(
        execution_id=execution_id,
        job_id="j-1",
        offer_id=offer_id,
        bid_id=bid_id,
        price_microcredits=price_microcredits,
        clearing_rule=clearing_rule,
        bid_set_digest=b"",
        spec=spec or a_spec(),
        lease_us=lease_us,
    )


def a_report(
    execution_id: str = "e-1",
    *,
    attempt: int = 1,
    result: Cid | None = RESULT,
    exit_code: int = 0,
    fault: Fault | None = None,
    cancelled: bool = False,
) -> ExecutionReport:
    return ExecutionReport(execution_id, attempt, result, exit_code, Usage(), fault, cancelled)


def a_receipt(
    *,
    requester_id: str = "r1",
    node_id: str = "n1",
    execution_id: str = "e-1",
    sequence: int = 1,
    before: int = 0,
    rejection: Fault | None = None,
    bond: int = 0,
    penalty: int = 0,
) -> Receipt:
    """A price of 100 with a floor of a tenth, for six of sixty seconds; `before` is the balance until then."""
    pay = 10 if rejection is None else 0
    return Receipt(
        requester_id,
        node_id,
        sequence,
        before + pay - penalty,
        execution_id,
        "j-1",
        "o-1",
        "b-1",
        100,
        ClearingRule.FIRST_PRICE,
        bytes(32),
        PaymentTerms(PPM // 10),
        60 * SECOND_US,
        Usage(wall_us=6 * SECOND_US),
        RESULT,
        0,
        pay,
        rejection,
        5 * SECOND_US,
        bond,
        penalty,
    )


def a_policy(
    *,
    capacity: Resources = NODE_CAPACITY,
    job_limit: Resources = NODE_CAPACITY,
    labels: tuple[tuple[str, str], ...] = (),
    accept_networked: bool = False,
    reject_stateless: bool = False,
    only_local_inputs: bool = False,
    images: tuple[str, ...] = (),
    probe: bool = False,
    execution_timeout_max_us: int = 3600 * SECOND_US,
    price_script: bool = False,
) -> BiddingPolicy:
    return BiddingPolicy(
        capacity=capacity,
        job_limit=job_limit,
        labels=labels,
        accept_networked=accept_networked,
        reject_stateless=reject_stateless,
        only_local_inputs=only_local_inputs,
        images=images,
        probe=probe,
        execution_timeout_max_us=execution_timeout_max_us,
        price_script=price_script,
    )


def a_compute_config(
    *, policy: BiddingPolicy | None = None, remembered_offers_max: int = 10_000, attempts_max: int = 3
) -> ComputeConfig:
    return ComputeConfig(
        policy or a_policy(), remembered_offers_max=remembered_offers_max, attempts_max=attempts_max
    )
